from __future__ import annotations

import flwr.serverapp.strategy as flower
import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix
from tests.rules.flower import aggregate, rounds


def test_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [100.0]])
    # Two nearest others: 0 -> 1 + 9, 1 -> 1 + 4, 3 -> 4 + 9.
    assert rules.Krum(1)(X) == 1.0
    # One: 0 -> 1, 1 -> 1, 3 -> 4.
    assert rules.Krum(1, num_neighbors=1)(X) == 0.0


def test_of_equal_scores_the_lowest_index_wins():
    X = np.array([[7.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert np.array_equal(rules.Krum(2, num_neighbors=2)(X), X[1])
    assert np.array_equal(rules.Krum(2, num_neighbors=2)(X[::-1]), X[4])


@pytest.mark.parametrize("p", [1, 1.5, 3, 16, np.inf])
def test_other_norms(p):
    for kind in ("normal", "hostile", "tiny", "zeros"):
        X = matrix(kind, 9, 40, seed=3)
        assert_close(rules.Krum(3, p=p)(X), references.krum(X, 3, p=p), X)
        chained = rules.chain(rules.NNM(3), rules.Krum(3, p=p))(X)
        assert_close(chained, references.krum(references.nnm(X, 3), 3, p=p), X)


def test_number_of_neighbours():
    X = matrix("normal", 9, 20, seed=4)
    for neighbours in range(1, 9):
        found = rules.Krum(2, num_neighbors=neighbours)(X)
        assert_close(found, references.krum(X, 2, num_neighbors=neighbours), X)


def test_with_blanchards_number_of_neighbours_it_chooses_as_flower():
    for X, f in rounds((5, 1), (9, 2), (11, 4), (20, 6)):
        found, chosen = aggregate(flower.Krum(num_malicious_nodes=f), X)
        np.testing.assert_array_equal(rules.Krum(f, num_neighbors=len(X) - f - 2)(X), X[chosen[0]])
        np.testing.assert_allclose(found, X[chosen[0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.Krum(1, num_neighbors=-2), "num_neighbors = -2; give None or a whole number above 0"),
        (lambda: rules.Krum(1, p=0.5), "Krum was given p = 0.5; give the order of an lp norm: a number from 1 to inf"),
        (lambda: rules.Krum(1, num_neighbors=8)(np.ones((8, 3))), "n > num_neighbors = 8, so at least 9 rows"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
