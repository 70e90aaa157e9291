from __future__ import annotations

import numpy as np

from flwr_robust.rules import histories
from flwr_robust.rules.histories import History


def play(rounds, limit, monkeypatch):
    """Remember in which round each node was last there; return the nodes and these numbers."""
    monkeypatch.setattr(histories, "LIMIT", limit)
    memory = {}
    for number, names in enumerate(rounds):
        history = History(memory, names)
        values = history.resized(memory.get("values"), (2,), np.float64, -1.0)
        assert [values[place, 0] >= 0 for place in history.places] == history.known.tolist()
        values[history.places] = number
        memory = {"values": values, **history.remembered()}
    return dict(zip(memory["nodes"].tolist(), memory["values"][:, 0].astype(int).tolist(), strict=True))


def test_nodes_come_and_go(monkeypatch):
    assert play(["ab", "b", "cb", "ac"], 10, monkeypatch) == {"a": 3, "b": 2, "c": 3}


def test_those_are_forgotten_that_were_not_there_for_longest(monkeypatch):
    assert play(["ab", "c", "d", "a"], 3, monkeypatch) == {"c": 1, "d": 2, "a": 3}
    # All that are there stay, however many they are.
    assert play(["ab", "cdef"], 3, monkeypatch) == {"c": 1, "d": 1, "e": 1, "f": 1}


def test_where_nobody_came_or_went_the_values_stay_where_they_are():
    first = History({}, ["x", "y"])
    values = first.resized(None, (3,), np.float32)
    again = History(first.remembered(), ["y", "x"])
    assert again.resized(values, (3,), np.float32) is values
    assert again.resized(values, (3,), np.float64) is not values
    assert again.places.tolist() == [1, 0]
