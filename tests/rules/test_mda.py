from __future__ import annotations

import time

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules import mda
from tests.rules import references


def test_by_hand():
    # 3, 4 and 6 have a diameter of 3, any other three rows one of 4 or more.
    assert rules.MDA(1)(np.array([[0.0], [3.0], [4.0], [6.0]])) == pytest.approx(13 / 3)


def test_of_equal_diameters_the_lexicographically_first_set_wins():
    assert rules.MDA(1)(np.array([[2.0], [1.0], [0.0]])) == 1.5
    assert rules.MDA(2)(np.array([[0.0], [9.0], [1.0], [2.0], [1.5]])) == pytest.approx(4.5 / 3)


@pytest.mark.parametrize("kind", ["random", "clusters", "outliers"])
def test_thirty_rows_take_seconds(kind):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((30, 50))
    if kind == "clusters":
        X = 5.0 * rng.standard_normal((3, 50))[rng.integers(0, 3, 30)] + X
    elif kind == "outliers":
        X[:6] *= 20.0
    start = time.process_time()
    distances = references.distances(X) ** 2
    chosen = mda.least_diameter(distances, 6)
    assert time.process_time() - start < 60.0
    assert len(chosen) == 24
    # No pair of rows can be exchanged for a smaller diameter: a necessary condition that is quick to check.
    diameter = distances[np.ix_(chosen, chosen)].max()
    for out in chosen:
        for into in set(range(30)) - set(chosen):
            swapped = [into if i == out else i for i in chosen]
            assert distances[np.ix_(swapped, swapped)].max() >= diameter * (1 - 1e-12)


def test_it_says_when_it_gives_up(monkeypatch):
    monkeypatch.setattr(mda, "LIMIT", 3)
    with pytest.raises(rules.GaveUpError, match=r"MDA\(f=6\) gave up its exact search on n = 30 rows after 3 branchi"):
        rules.MDA(6)(np.random.default_rng(5).standard_normal((30, 4)))
