from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("options", [(None, 3), (1.0, 2), (5.0, 4), (1e-3, 1), (2.0, 30)])
@pytest.mark.parametrize("kind", ["normal", "duplicates", "zeros", "integers"])
def test_options(kind, options):
    for seed in range(5):
        X = matrix(kind, 9, 2, seed=seed, dtype=np.float64)
        assert_close(rules.SimpleClustering(*options)(X), references.simple_clustering(X, *options), X)


def test_without_a_cluster_it_is_the_median():
    X = matrix("normal", 8, 30, seed=1)
    assert np.allclose(rules.SimpleClustering(radius=1e-6)(X), np.median(X, axis=0))
    assert np.array_equal(rules.SimpleClustering()(X[:1]), X[0])


def test_its_rows_and_those_of_a_core():
    rule = rules.SimpleClustering(min_rows=5)
    assert (rule.min_rows, repr(rule)) == (1, "SimpleClustering(min_rows=5)")
