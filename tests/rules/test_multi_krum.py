from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


def test_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [100.0]])
    # Scores 10, 5, 13 and far.
    assert rules.MultiKrum(1, m=2)(X) == 0.5
    assert rules.MultiKrum(1)(X) == pytest.approx(4 / 3)
    assert rules.MultiKrum(1, m=1)(X) == rules.Krum(1)(X)


def test_of_equal_scores_the_lowest_indices_win():
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert np.array_equal(rules.MultiKrum(1, m=2)(X), [0.0, 0.0])
    assert np.array_equal(rules.MultiKrum(1, m=3)(X), X[:3].mean(axis=0))


@pytest.mark.parametrize("p", [1, 1.5, 3, 16, np.inf])
def test_other_norms(p):
    for kind in ("normal", "hostile", "tiny", "zeros"):
        X = matrix(kind, 9, 40, seed=3)
        assert_close(rules.MultiKrum(3, m=4, p=p)(X), references.multi_krum(X, 3, m=4, p=p), X)


def test_numbers_of_rows_and_neighbours():
    X = matrix("normal", 9, 20, seed=4)
    for m in (1, 3, 9):
        for neighbours in (1, 4, 8):
            found = rules.MultiKrum(2, m=m, num_neighbors=neighbours)(X)
            assert_close(found, references.multi_krum(X, 2, m=m, num_neighbors=neighbours), X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.MultiKrum(1, m=0), "m = 0; give None or a whole number above 0"),
        (lambda: rules.MultiKrum(1, m=9)(np.ones((8, 3))), "needs n > 2f and n >= m = 9, so at least 9 rows"),
        (
            lambda: rules.MultiKrum(1, m=5, num_neighbors=6)(np.ones((6, 3))),
            "needs n > 2f and n >= m = 5 and n > num_neighbors = 6, so at least 7 rows",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
