from __future__ import annotations

import numpy as np

from flwr_robust import rules


def test_by_hand():
    X = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0], [1000.0, -9.0]])
    # The first median is 3: 1 and 4 stay beside 2, at distances of 2 and 1.
    assert np.allclose(rules.MeaMed(1)(X), [7 / 3, 5.0])


def test_of_two_equally_near_values_the_lower_counts():
    assert rules.MeaMed(1)(np.array([[0.0], [1.0], [2.0]])) == 0.5
    assert rules.MeaMed(1)(np.array([[2.0], [1.0], [0.0]])) == 0.5
