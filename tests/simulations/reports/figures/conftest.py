"""Curves of the two rules."""

import pytest

ROUNDS = [0, 10, 20]


@pytest.fixture
def curves(two_rules):
    """Give the two rules curves: from 10 % to their accuracy."""
    toml, accuracy = two_rules

    def result(labels):
        last = accuracy(labels)
        halves = {"measure/xi": [8, 4, 2], "measure/A": [None, 6, 3]}
        return {
            "max_accuracy": last,
            "evaluated": ROUNDS,
            "accuracy": [0.1, 0.3, last],
            "rounds": ROUNDS,
            "measures": halves,
        }

    return toml, result
