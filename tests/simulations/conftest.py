"""Messages, experiment files, and a small sweep whose numbers are worked out by hand in the tests."""

import pytest
from flwr.supercore.task_identity import TaskIdentity

from simulations.experiments.experiment import load_experiment


@pytest.fixture
def task_identity(monkeypatch):
    """Give messages that are made by hand a sender."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def load(tmp_path):
    def write(text):
        path = tmp_path / "given.toml"
        path.write_text(text)
        return load_experiment(str(path))

    return write


TOML = """
title = "Two rules"
source = "Someone, Somewhere (2024), Table 1"
paper = "NNM"
claim = "Krum is better."
[federation]
num-supernodes = 5
[parameters]
num-malicious = 1
[grid]
seed = [1, 2]
attack = [
    { label = "No attack", attack = "none" },
    { label = "ALIE", attack = "alie" },
    { label = "SF", attack = "sign-flip" },
]
defense = [{ label = "Krum", defense = "krum" }, { label = "Median", defense = "median" }]
"""

ACCURACY = {
    ("No attack", "Krum"): (0.95, 0.95),
    ("ALIE", "Krum"): (0.5, 0.6),
    ("SF", "Krum"): (0.8, 0.9),
    ("No attack", "Median"): (0.97, 0.97),
    ("ALIE", "Median"): (0.4, 0.6),
    ("SF", "Median"): (0.7, 0.7),
}


def accuracy(labels):
    """Return the accuracy of a cell."""
    return ACCURACY[labels["attack"], labels["defense"]][labels["seed"] - 1]


@pytest.fixture
def two_rules():
    """Return the experiment file and the results of its cells."""
    return TOML, accuracy
