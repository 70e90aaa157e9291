"""The median in other lp norms: no worse than what a general minimiser finds."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.run import run
from tests.rules import references
from tests.rules.data import assert_close, matrix
from tests.rules.test_geometric_median import hard_rows


def sum_of_distances(X, y, p):
    return sum(np.linalg.norm(x - y, ord=p) for x in np.asarray(X, dtype=np.float64))


@pytest.mark.parametrize("p", [1.5, 3, 8, 16])
@pytest.mark.parametrize(("n", "d"), [(3, 2), (7, 5), (12, 20)])
def test_minimises_the_sum_of_distances(p, n, d):
    from scipy.optimize import minimize

    X = matrix("normal", n, d, seed=1, dtype=np.float64)
    found = rules.GeometricMedian(p=p, tol=1e-9, max_iterations=2000)(X)
    best = minimize(lambda y: sum_of_distances(X, y, p), X.mean(axis=0), method="BFGS", options={"gtol": 1e-10})
    # The higher the order, the flatter the sum around its minimum, and the slower the steps.
    assert sum_of_distances(X, found, p) <= best.fun * (1 + (1e-6 if p < 10 else 1e-5))


def nearby_sum(X, y, p):
    """Least sum of distances that a general minimiser finds from there."""
    from scipy.optimize import minimize

    unit = sum_of_distances(X, y, p) / len(X)
    return unit * minimize(lambda z: sum_of_distances(X / unit, z, p), y / unit, options={"gtol": 1e-12}).fun


@pytest.mark.parametrize(("p", "share"), [(1.5, 1e-5), (3, 1e-6), (8, 1e-6), (16, 1e-5)])
def test_rows_that_are_hard(p, share):
    """Coincident, nearly coincident, on a line, of several scales, with the default's steps."""
    rng, worse = np.random.default_rng(1), 0
    for _ in range(150):
        X = hard_rows(rng, most=20)
        found = rules.GeometricMedian(p=p)(X)
        total = references.sum_of_distances(X, found, p)
        rounding = 8 * np.finfo(float).eps * X.size * np.median(np.abs(X).max(axis=1))
        if references.certified_gap(X, found, p) * total <= share * total + rounding:
            continue
        # The bound is loose where the sum has hardly a slope: a search from there must not find less.
        worse += nearby_sum(X, found, p) < total * (1 - share) - rounding
    assert worse <= 1


def test_order_1_is_the_coordinate_wise_median():
    X = matrix("normal", 9, 30, seed=2)
    assert np.array_equal(rules.GeometricMedian(p=1)(X), rules.Median()(X))


def test_order_2_is_the_limit():
    X = matrix("normal", 9, 30, seed=3, dtype=np.float64)
    assert_close(rules.GeometricMedian(p=2 + 1e-9, tol=1e-10)(X), rules.GeometricMedian()(X), X, tolerance=1e-5)


@pytest.mark.parametrize("p", [1.5, 5])
def test_far_away_rows_have_bounded_pull(p):
    X = matrix("normal", 11, 10, seed=4, dtype=np.float64)
    honest = rules.GeometricMedian(p=p)(X[5:])
    X[:5] = 1e9
    found = rules.GeometricMedian(p=p, max_iterations=500)(X)
    assert np.linalg.norm(found - honest) <= 20 * np.linalg.norm(X[5:] - honest, axis=1).max()


def test_passes_are_limited():
    X = updates_for(matrix("normal", 9, 300, seed=5))
    outcome = run(rules.GeometricMedian(p=4, max_iterations=7), X)
    assert outcome.passes <= 1 + 1 + 1 + 7
    assert outcome.weights is None
