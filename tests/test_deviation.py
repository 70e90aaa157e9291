"""Deviations from the honest mean, from a Gram matrix, against the definition."""

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.theory import deviation, measure_with

HONEST = [0, 2, 3, 5]


def measured(X, aggregate, honest=HONEST):
    return deviation(measure_with(Updates.of_rows(X), aggregate), honest)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("rule", [rules.Mean(), rules.Median(), rules.chain(rules.NNM(f=2), rules.Krum(f=2))])
def test_kappa_is_the_measured_coefficient(rule, offset):
    X = np.random.default_rng(0).normal(size=(7, 300)) + offset
    found = measured(X, rule(X))
    mean = X[HONEST].mean(axis=0)
    assert found.error == pytest.approx(np.linalg.norm(rule(X) - mean), rel=1e-6)
    assert found.spread == pytest.approx(np.sqrt(np.square(X[HONEST] - mean).sum(axis=1).mean()), rel=1e-6)
    assert found.mean_norm == pytest.approx(np.linalg.norm(mean), rel=1e-9)
    assert found.kappa == pytest.approx(rules.empirical_kappa(rule, X, HONEST), rel=1e-6)


def test_by_hand():
    X = np.array([[0.0, 0.0], [9.0, 9.0], [2.0, 0.0]])
    # The mean is (1, 0), both rows are 1 away from it, and the aggregate 3.
    found = measured(X, np.array([1.0, 3.0]), [0, 2])
    assert (found.error, found.spread, found.mean_norm, found.kappa) == pytest.approx((3, 1, 1, 3))


def test_rows_that_agree_have_no_finite_coefficient():
    X = np.ones((3, 4))
    assert measured(X, np.full(4, 2.0), [0, 1]).kappa == np.inf
    assert measured(X, np.ones(4), [0, 1]).kappa == 0.0


def test_huge_rows_do_not_overflow():
    X = np.random.default_rng(0).normal(size=(4, 50)) * 1e200
    found = measured(X, X.mean(axis=0), [0, 1, 2])
    assert found.kappa == pytest.approx(rules.empirical_kappa(rules.Mean(), X / 1e200, [0, 1, 2]), rel=1e-6)
