from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("lam", [None, 5.0, 30.0])
@pytest.mark.parametrize("kind", ["normal", "duplicates", "zeros"])
def test_lambda(kind, lam):
    X = matrix(kind, 8, 6, seed=1, dtype=np.float64)
    assert_close(rules.AutoGM(lam)(X), references.autogm(X, lam), X, 1e-4)


def test_far_rows_lose_their_weight():
    X = np.vstack([matrix("normal", 9, 5, seed=2, dtype=np.float64), np.full((4, 5), 1e9)])
    assert np.linalg.norm(rules.AutoGM()(X) - X[:9].mean(axis=0)) < 1.0


def test_a_large_lambda_makes_the_geometric_median():
    X = matrix("normal", 9, 5, seed=3, dtype=np.float64)
    assert_close(rules.AutoGM(lam=1e9)(X), rules.GeometricMedian()(X), X, 1e-5)


@pytest.mark.parametrize(("name", "value"), [("lam", 0), ("tol", 0), ("max_iterations", 0)])
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"AutoGM was given {name} = {value}"):
        rules.AutoGM(**{name: value})
