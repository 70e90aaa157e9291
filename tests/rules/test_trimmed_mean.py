from __future__ import annotations

import numpy as np

from flwr_robust import rules


def test_by_hand():
    X = np.array([[0.0, 9.0], [1.0, 0.0], [3.0, 1.0], [100.0, 5.0]])
    assert np.array_equal(rules.TrimmedMean(1)(X), [2.0, 3.0])
    assert np.array_equal(rules.TrimmedMean(0)(X), X.mean(axis=0))


def test_a_fraction_of_the_rows():
    ten = np.arange(10.0)[:, None] ** 2
    assert rules.TrimmedMean(0.25)(ten) == rules.TrimmedMean(2)(ten)
