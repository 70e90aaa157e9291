"""The project as a Flower app: ``flwr run`` against a SuperLink of the test's own, which ends with it."""

from pathlib import Path

from simulations.run.results import read_result
from tests.deployment.flower import flwr_run, superlink

ROOT = Path(__file__).resolve().parents[2]


def test_flwr_run_trains_and_writes_results(tmp_path):
    run_config = f'attack="alie" defense="nnm+trimmed-mean" num-malicious=1 num-rounds=2 out-dir="{tmp_path}/out"'
    federation = "num-supernodes=4 client-resources-num-cpus=1"
    with superlink(tmp_path, simulation=True):
        told = flwr_run(ROOT, tmp_path, "--federation-config", federation, "--run-config", run_config)
    # The file is what counts: Flower streams and keeps logs as well as it can, without a second try at the end.
    paths = list((tmp_path / "out").glob("*.jsonl"))
    assert len(paths) == 1, told
    result = read_result(paths[0])
    assert (result.num_nodes, len(result.rounds), result.error) == (4, 3, None), told
    assert result.parameters["attack"] == "alie"
    assert result.end is not None, told
    assert result.end["final_accuracy"] > 0
