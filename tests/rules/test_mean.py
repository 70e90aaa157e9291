from __future__ import annotations

import numpy as np

from flwr_robust import rules


def test_by_hand():
    assert rules.Mean()(np.array([[0.0], [1.0], [3.0], [100.0]])) == 26.0
