from __future__ import annotations

import numpy as np

from flwr_robust import rules


def test_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [100.0]])
    assert np.allclose(rules.NNM(1)(X), [[4 / 3], [4 / 3], [4 / 3], [104 / 3]])


def test_of_equally_near_rows_the_lower_index_counts():
    X = np.array([[1.0], [0.0], [-1.0]])
    assert rules.NNM(1)(X).tolist() == [[0.5], [0.5], [-0.5]]


def test_a_row_is_among_its_own_neighbours_before_its_duplicates():
    X = np.array([[5.0], [5.0], [5.0], [0.0], [9.0]])
    assert rules.NNM(2)(X).tolist() == [[5.0], [5.0], [5.0], [10 / 3], [19 / 3]]
