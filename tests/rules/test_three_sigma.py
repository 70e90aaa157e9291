from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("kind", ["normal", "hostile", "integers", "zeros"])
@pytest.mark.parametrize("sigmas", [0.0, 0.5, 2.0])
def test_the_first_call_compares_with_the_rows_and_later_ones_with_zero(kind, sigmas):
    rounds, rule = [matrix(kind, 9, 30, seed=seed, dtype=np.float64) for seed in range(3)], rules.ThreeSigma(sigmas)
    for X, expected in zip(rounds, references.three_sigma(rounds, sigmas), strict=True):
        assert_close(rule(X), expected, X)


def test_reset_begins_with_a_first_call():
    X, rule = matrix("normal", 9, 30, seed=1) + 7.0, rules.ThreeSigma()
    first, second = rule(X), rule(X)
    rule.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(rule(X), first)


def test_one_row():
    assert np.array_equal(rules.ThreeSigma(0.0)(np.array([[3.0, 4.0]])), [3.0, 4.0])
