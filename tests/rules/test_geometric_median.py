"""The geometric median: no point has a smaller sum of distances."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references as ref
from tests.rules.data import KINDS, assert_close, matrix


def weiszfeld(X, steps=20_000):
    X = np.asarray(X, dtype=np.float64)
    y = X.mean(axis=0)
    for _ in range(steps):
        far = np.maximum(np.linalg.norm(X - y, axis=1), 1e-300)
        new = (X / far[:, None]).sum(axis=0) / (1 / far).sum()
        if np.linalg.norm(new - y) <= 1e-14 * np.median(far):
            return new
        y = new
    return y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d"), [(3, 1), (3, 2), (4, 3), (6, 50), (17, 300), (40, 20)])
def test_no_worse_than_many_plain_iterations(kind, n, d):
    X = matrix(kind, n, d, seed=1, dtype=np.float64)
    found, plain = rules.GeometricMedian()(X), weiszfeld(X)
    assert ref.sum_of_distances(X, found) <= ref.sum_of_distances(X, plain) * (1 + 1e-10)
    if kind in ("normal", "near", "tiny", "huge") and d > 1:
        assert_close(found, plain, X)


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


def test_smoothing_follows_the_scale_of_the_data():
    X = matrix("normal", 9, 30, seed=2, dtype=np.float64)
    base = rules.GeometricMedian()(X)
    for scale in (1e-30, 1e-6, 1e9):
        assert_close(rules.GeometricMedian()(scale * X), scale * base, X, tolerance=1e-9)


@pytest.mark.parametrize("tau", [1e3, 1e9, 1e14])
def test_far_away_rows_have_bounded_pull(tau):
    X = matrix("normal", 11, 10, seed=3, dtype=np.float64)
    X[:5] = tau
    found = rules.GeometricMedian()(X)
    assert ref.sum_of_distances(X[5:], found) <= 11 * ref.sum_of_distances(X[5:], X[5:].mean(axis=0))
    assert ref.sum_of_distances(X, found) <= ref.sum_of_distances(X, weiszfeld(X)) * (1 + 1e-10)


def test_rows_that_agree_up_to_rounding_are_one_point():
    """Clipping brings a row onto others but for the last bit, and on a line the sum of distances is straight there."""
    rng = np.random.default_rng(0)
    chain = rules.chain(rules.ARC(f=2), rules.GeometricMedian())
    for _ in range(500):
        near, far = sorted(np.round(rng.uniform(-10, 10, 2), 3), key=abs)
        X = np.array([near, near, far, far, near, near, far, far * rng.uniform(1.2, 4), far])[:, None]
        assert abs(chain(X)[0] - far) <= 1e-6 * abs(far)
