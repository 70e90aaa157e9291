"""The geometric median: no point has a smaller sum of distances."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import KINDS, matrix


@pytest.mark.parametrize("kind", KINDS)
def test_no_worse_than_many_plain_iterations(kind):
    for n, d in [(3, 1), (3, 2), (4, 3), (6, 50), (17, 300), (40, 20)]:
        X = matrix(kind, n, d, seed=1, dtype=np.float64)
        found, plain = rules.GeometricMedian()(X), references.geometric_median(X)
        assert references.sum_of_distances(X, found) <= references.sum_of_distances(X, plain) * (1 + 1e-10)


def test_a_row_that_is_the_median_is_returned_exactly():
    X = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.1], [0.0, 1.0], [0.1, -1.0]])
    assert np.array_equal(rules.GeometricMedian()(X), [0.0, 0.0])


def test_majority_of_equal_rows_wins():
    X = np.array([[1.0, 2.0]] * 4 + [[1e12, -1e12]] * 3)
    assert np.array_equal(rules.GeometricMedian()(X), [1.0, 2.0])


def test_triangle_of_120_degrees_meets_at_the_fermat_point():
    corners = [(np.cos(a), np.sin(a)) for a in (0.3, 0.3 + 2 * np.pi / 3, 0.3 + 4 * np.pi / 3)]
    assert np.allclose(rules.GeometricMedian()(np.array(corners) + 5.0), [5.0, 5.0], atol=1e-12)


def test_two_rows_meet_in_the_middle():
    assert np.allclose(rules.GeometricMedian()(np.array([[0.0, 0.0], [2.0, 4.0]])), [1.0, 2.0], rtol=1e-14)


@pytest.mark.parametrize("tau", [1e3, 1e9, 1e14])
def test_far_away_rows_have_bounded_pull(tau):
    X = matrix("normal", 11, 10, seed=3, dtype=np.float64)
    X[:5] = tau
    found = rules.GeometricMedian()(X)
    assert references.sum_of_distances(X[5:], found) <= 11 * references.sum_of_distances(X[5:], X[5:].mean(axis=0))
    assert references.sum_of_distances(X, found) <= references.sum_of_distances(X, references.geometric_median(X)) * (
        1 + 1e-10
    )


def test_rows_that_agree_up_to_rounding_are_one_point():
    """Clipping brings a row onto others but for the last bit, and on a line the sum of distances is straight there."""
    rng = np.random.default_rng(0)
    chain = rules.chain(rules.ARC(f=2), rules.GeometricMedian())
    for _ in range(500):
        near, far = sorted(np.round(rng.uniform(-10, 10, 2), 3), key=abs)
        X = np.array([near, near, far, far, near, near, far, far * rng.uniform(1.2, 4), far])[:, None]
        assert abs(chain(X)[0] - far) <= 1e-6 * abs(far)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0}, "tol = 0; give a finite number above 0"),
        ({"max_iterations": 1.5}, "max_iterations = 1.5; give a whole number above 0"),
        ({"p": np.inf}, "p = inf; give a finite order of at least 1"),
        ({"p": 0.5}, "p = 0.5; give the order of an lp norm"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        rules.GeometricMedian(**options)
