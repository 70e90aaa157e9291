"""What is kept of a cell: its parameters, labels, versions, curves, measures and rates, in one line of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr_robust.record.fates import ReportError
from simulations.config.run_config import NOT_PARAMETERS
from simulations.experiments.experiment import Experiment
from simulations.run.fates import read_runs
from simulations.run.results import FINAL_SUCCESS, SUCCESS, RunResult
from simulations.sweep.cells import Cell

Record = dict[str, Any]


def make_record(experiment: Experiment, cell: Cell, result: RunResult, error: str | None = None) -> Record:
    """Put together a cell's line from what its run left, and why it failed, if it did."""
    evaluated = [line for line in result.rounds if line["accuracy"] is not None]
    end = result.end or {}
    tpr, fpr = _rates(result.path)
    return {
        "cell": cell.fingerprint,
        "experiment": experiment.name,
        "lite": experiment.is_lite,
        "labels": cell.labels,
        "parameters": {key: value for key, value in cell.config.to_run_config().items() if key not in NOT_PARAMETERS},
        "num_nodes": cell.num_nodes,
        "seed": cell.config.seed,
        "versions": result.versions,
        "status": "failed" if error else "done",
        "error": error,
        "evaluated": [line["round"] for line in evaluated],
        "accuracy": [line["accuracy"] for line in evaluated],
        "loss": [line["loss"] for line in evaluated],
        "attack_success_rate": [line[SUCCESS] for line in evaluated if SUCCESS in line],
        "rounds": [line["round"] for line in result.rounds],
        "measures": _measures(result),
        "max_accuracy": end.get("max_accuracy"),
        "final_accuracy": end.get("final_accuracy"),
        "final_attack_success_rate": end.get(FINAL_SUCCESS),
        "tpr": tpr,
        "fpr": fpr,
        "wall_s": end.get("wall_s"),
    }


def _measures(result: RunResult) -> dict[str, list[Any]]:
    """Return what was measured, by name; None in rounds that did not measure it."""
    names = dict.fromkeys(
        key for line in result.rounds for key in line if key.startswith("measure/") or key == "aggregation-seconds"
    )
    return {name: [line.get(name) for line in result.rounds] for name in names}


def _rates(path: Path) -> tuple[float | None, float | None]:
    """Return the shares of malicious updates that were caught and of honest ones that were lost, where known."""
    try:
        (run,) = read_runs(path)
    except ReportError:  # no round was finished
        return None, None
    return (run.rates.tpr, run.rates.fpr) if run.has_weights else (None, None)
