from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("kind", ["normal", "hostile", "duplicates", "integers", "near"])
def test_exact_for_every_f(kind):
    for n, d in [(9, 2), (10, 30)]:
        for f in range((n + 1) // 2):
            X = matrix(kind, n, d, seed=f, dtype=np.float64)
            assert_close(rules.SMEA(f)(X), references.smea(X, f), X)


def test_of_sets_that_are_alike_the_first():
    X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    assert np.array_equal(rules.SMEA(2)(X), [1.0])


def test_five_thousand_sets_are_compared_whatever_they_hold():
    started = perf_counter()
    X = np.random.default_rng(0).standard_normal((100, 20))
    found = rules.SMEA(2)(X)
    assert np.isfinite(found).all()
    assert perf_counter() - started < 60


def test_a_hopeless_search_is_not_begun():
    started = perf_counter()
    says = r"n = 40 rows, which have 847660528 sets to compare, .*take a smaller f, or CAF"
    with pytest.raises(rules.GaveUpError, match=says):
        rules.SMEA(10)(np.random.default_rng(0).standard_normal((40, 5)))
    assert perf_counter() - started < 5
