"""A run's files as the simulation leaves them."""

from flwr_robust.record.fates import Fate
from flwr_robust.record.report import RoundReport
from simulations.config.run_config import RunConfig
from simulations.run.recorder import RunRecorder
from tests.record.runs import BIG, FATES


def recorded(folder, attack="foe", rounds=4, defense="multi-krum"):
    """A run's files as the simulation leaves them."""
    config = RunConfig(out_dir=str(folder), num_malicious=2, attack=attack, defense=defense, num_rounds=rounds)
    ids = [BIG + place for place in (4, 2, 0, 3, 1)]
    recorder = RunRecorder(config, 5, {node: place for place, node in enumerate(ids)})
    for current in range(1, rounds + 1):
        report = RoundReport(current, "MultiKrum(f=2)", 5, 2)
        report.nodes = {node: FATES[Fate.ZERO_WEIGHT if node in ids[3:] else Fate.USED] for node in ids}
        report.append_to(recorder.reports_path)
        recorder.round(current, 0.5, 1.0)
    recorder.end()
    return recorder.path
