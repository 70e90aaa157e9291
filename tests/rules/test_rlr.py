from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("threshold", [None, 1, 2.5, 9])
def test_thresholds(threshold):
    X = matrix("integers", 9, 60, seed=1, dtype=np.float64)
    assert_close(rules.RLR(2, threshold)(X), references.rlr(X, 2, threshold), X)


def test_a_threshold_of_more_rows_than_there_are():
    with pytest.raises(ValueError, match=r"given n = 4 rows with f = 1, but it needs n > 2f and n >= threshold = 4\.5"):
        rules.RLR(1, threshold=4.5)(np.ones((4, 2)))
    with pytest.raises(ValueError, match="RLR was given threshold = 0; give a finite number above 0"):
        rules.RLR(1, threshold=0)


def test_rounding_makes_no_sign():
    X = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, -1.0]])
    assert np.allclose(rules.RLR(1)(X), [1.0, 1 / 3])
