from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("options", [(1, 1e-6), (3, 0.5), (10, 1e-3)])
@pytest.mark.parametrize("kind", ["normal", "hostile", "duplicates", "zeros"])
def test_options(kind, options):
    X = matrix(kind, 8, 15, seed=1, dtype=np.float64)
    assert_close(rules.RFA(*options)(X), references.rfa(X, *options), X)


def test_where_most_rows_are_the_mean_a_distance_of_zero_counts_as_a_small_one():
    X = np.array([[0.0], [0.0], [0.0], [1.0], [-1.0]])
    assert abs(rules.RFA()(X)[0]) < 1e-12
    X = np.array([[0.0], [0.0], [0.0], [4.0], [-1.0], [-3.0]])
    assert_close(rules.RFA()(X), references.rfa(X), X)


def test_many_steps_reach_the_geometric_median():
    X = matrix("normal", 9, 5, seed=3, dtype=np.float64)
    assert_close(rules.RFA(200)(X), rules.GeometricMedian()(X), X)
    assert not np.allclose(rules.RFA()(X), rules.GeometricMedian()(X), atol=1e-4)
