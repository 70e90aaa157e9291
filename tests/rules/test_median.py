from __future__ import annotations

import numpy as np

from flwr_robust import rules


def test_by_hand():
    X = np.array([[0.0, 5.0], [3.0, -1.0], [1.0, 4.0], [100.0, 4.0]])
    assert np.array_equal(rules.Median()(X), [2.0, 4.0])
    assert np.array_equal(rules.Median()(X[:3]), [1.0, 4.0])
