from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.run import run
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("options", [(0.999, 0.01), (0.0, 0.5), (1.0, 0.0), (-1.0, 0.1)])
@pytest.mark.parametrize("kind", ["normal", "duplicates", "zeros", "integers", "near"])
def test_options(kind, options):
    X = matrix(kind, 9, 6, seed=1, dtype=np.float64)
    found, expected = rules.SimilarityFilter(*options)(X), references.similarity_filter(X, *options)
    assert found.shape == expected.shape
    assert_close(found, expected, X, 1e-12)


def test_where_all_are_alike_all_stay():
    assert rules.SimilarityFilter()(np.ones((4, 3))).shape == (4, 3)


def test_rows_that_are_left_out_have_no_weight_and_the_rule_its_own_requirement():
    X = matrix("normal", 9, 20, seed=2, dtype=np.float64)
    X[[1, 4, 7]] = X[1]
    chain = rules.chain(rules.SimilarityFilter(), rules.Mean())
    found = run(chain, updates_for(X))
    assert found.trace.kept == [0, 2, 3, 5, 6, 8]
    assert found.weights.tolist() == pytest.approx([1 / 6 if row in found.trace.kept else 0 for row in range(9)])
    with pytest.raises(ValueError, match="given n = 6 rows with f = 3, but it needs n > 2f"):
        rules.chain(rules.SimilarityFilter(), rules.TrimmedMean(3))(X)
    twice = rules.chain(rules.SimilarityFilter(), rules.SimilarityFilter(0.0, 9.0), rules.Mean())
    assert len(run(twice, updates_for(X)).trace.kept) <= 6
