from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules


def test_by_hand():
    # The mean of all is 22, the one without 100 is 2.5: first 100 goes, then 7.
    X = np.array([[0.0], [1.0], [2.0], [7.0], [100.0]])
    assert rules.FABA(1)(X) == 2.5
    assert rules.FABA(2)(X) == 1.0


def test_of_equally_far_rows_the_last_one_goes():
    assert rules.FABA(1)(np.array([[-1.0], [0.0], [1.0]])) == -0.5
    assert rules.FABA(1)(np.array([[1.0], [0.0], [-1.0]])) == 0.5


def test_where_all_rows_agree_any_may_go():
    assert rules.FABA(2)(np.full((5, 3), 0.1)) == pytest.approx([0.1] * 3)
