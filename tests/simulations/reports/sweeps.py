"""Sweeps' folders made by hand: an experiment file, and cells with numbers that are known."""

import json
import tomllib
import zlib
from pathlib import Path

from simulations.experiments.experiment import read_experiment
from simulations.reports.sweeps import read_sweep
from simulations.validation import listed


def write_sweep(folder, toml, result, *, lite=False, leave_out=(), fail=(), extra=""):
    """Write a sweep's folder.

    Parameters
    ----------
    folder : Path
        Where to.
    toml : str
        The experiment file.
    result : callable
        Gives, for a cell's labels, fields of its line, or ``max_accuracy`` alone.
    lite : bool
        Whether it is the small version.
    leave_out, fail : sequence of dict
        Labels of cells that did not run, or failed.
    extra : str
        Behind the last line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text(toml, encoding="utf-8")
    experiment = read_experiment(tomllib.loads(toml), Path("made-up.toml"))
    version = experiment.lite if lite else experiment
    lines = []
    for choices in version.combinations():
        labels = {axis: choice.label for axis, choice in choices.items()}
        if any(matches(labels, wanted) for wanted in leave_out):
            continue
        parameters = dict(version.parameters)
        for choice in choices.values():
            parameters |= choice.parameters
        failed = any(matches(labels, wanted) for wanted in fail)
        told = {} if failed else result(labels)
        told = told if isinstance(told, dict) else {"max_accuracy": told}
        lines.append(json.dumps(cell_line(labels, parameters, lite=lite, failed=failed) | told))
    (folder / "cells.jsonl").write_text("".join(line + "\n" for line in lines) + extra, encoding="utf-8")
    return folder


def matches(labels, wanted):
    """Return whether labels are all those that are wanted; a list stands for any of its labels."""
    return all(axis in labels and labels[axis] in listed(value) for axis, value in wanted.items())


def made_sweep(folder, toml, result, **options):
    """Write a sweep's folder and read it back."""
    return read_sweep(write_sweep(folder, toml, result, **options))


def cell_line(labels, parameters, *, lite=False, failed=False):
    """Return a line of ``cells.jsonl`` without results."""
    return {
        "cell": json.dumps(parameters, sort_keys=True),
        "experiment": "made-up",
        "lite": lite,
        "labels": labels,
        "parameters": parameters | {"out-dir": "/somewhere/private"},
        "num_nodes": 17,
        "seed": parameters.get("seed", 1),
        "versions": {"flwr": "1.41.0", "flwr-robust": None},
        "status": "failed" if failed else "done",
        "error": "RuntimeError: out of memory\nTraceback" if failed else None,
        "evaluated": [],
        "accuracy": [],
        "loss": [],
        "rounds": [],
        "measures": {},
        "max_accuracy": None,
        "final_accuracy": None,
        "tpr": None,
        "fpr": None,
        "wall_s": 60.0,
    }


MEASURES = ("xi", "A", "kappa", "threshold", "honest-norm", "norm-least", "norm-median", "norm-largest")


def plausible(labels):
    """Return results of any kind for a cell: different for different labels, the same for the same."""
    share = 0.3 + 0.6 * (zlib.crc32(json.dumps(labels).encode()) % 1000) / 1000
    accuracy = [0.1, 0.9 * share, share]
    measures = {f"measure/{name}": [None, 2 * share, share] for name in MEASURES}
    return {
        "evaluated": [0, 50, 100],
        "accuracy": accuracy,
        "loss": [1 - part for part in accuracy],
        "rounds": [0, 50, 100],
        "measures": measures | {"aggregation-seconds": [None, 0.02, 0.01]},
        "max_accuracy": share,
        "final_accuracy": share,
        "attack_success_rate": [0.1, 1 - share, 1 - share],
        "final_attack_success_rate": 1 - share,
        "tpr": share,
        "fpr": share / 3,
    }
