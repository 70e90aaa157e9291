from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.run import run


def test_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [100.0]])
    assert np.allclose(rules.NNM(1)(X), [[4 / 3], [4 / 3], [4 / 3], [104 / 3]])


def test_of_equally_near_rows_the_lower_index_counts():
    X = np.array([[1.0], [0.0], [-1.0]])
    assert rules.NNM(1)(X).tolist() == [[0.5], [0.5], [-0.5]]


def test_a_row_is_among_its_own_neighbours_before_its_duplicates():
    X = np.ones((5, 3))
    # Rows 0 to 2 become the mean of themselves, 3 and 4 that of 0, 1 and themselves.
    weights = run(rules.chain(rules.NNM(2), rules.Mean()), updates_for(X)).weights
    assert weights * 15 == pytest.approx([5, 5, 3, 1, 1])
