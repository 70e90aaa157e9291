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


# ---------------------------------------------------------------- rows that are hard


def hard_rows(rng, most=40):
    """Rows that coincide, nearly coincide, lie on a line or nearly so, at any scale, some of them far away."""
    n = int(np.exp(rng.uniform(np.log(2), np.log(most))))
    d, few = int(rng.choice([1, 2, 3, 10, 50])), int(rng.integers(0, n))
    spread, kind = 10.0 ** rng.uniform(-15, -3), rng.integers(0, 6)
    X = rng.standard_normal((n, d))
    line = rng.standard_normal((n, 1)) * rng.standard_normal(d)
    if kind == 0:
        X[:few] = X[0]
    elif kind == 1:
        X[:few] = X[0] + spread * X[:few]
    elif kind == 2:
        X[:few] *= spread
    elif kind == 3:
        X = line
    elif kind == 4:
        X = line + spread * X
    if rng.random() < 0.3:
        X[rng.integers(0, n, max(1, n // 4))] *= 10.0 ** rng.uniform(-6, 12)
    return X * 10.0 ** rng.uniform(-15, 15)


def assert_least(rows, found, X, share=1e-6, p=2):
    """Compare with the least sum; beyond rounding of the numbers that the rows are made of."""
    total = references.sum_of_distances(rows, found, p)
    sizes = max(np.median(np.abs(X).max(axis=1)), np.median(np.abs(rows).max(axis=1)))
    rounding = 8 * np.finfo(X.dtype).eps * X.size * sizes
    assert references.certified_gap(rows, found, p) * total <= share * total + rounding


def test_the_certificate_tells_medians_from_other_points():
    rng = np.random.default_rng(0)
    for p in (1.5, 2, 5):
        X = rng.standard_normal((7, 3))
        found = rules.GeometricMedian(p=p)(X)
        assert references.certified_gap(X, found, p) < 1e-6
        for away in (0.01, 1.0, -3.0):
            other = found + away
            more = references.sum_of_distances(X, other, p) / references.sum_of_distances(X, found, p) - 1
            assert references.certified_gap(X, other, p) >= more / (1 + more) - 1e-6
    # A row that is the median; two that coincide with it but for the last digits.
    X = np.array([[0.0, 0.0], [1e-12, 0.0], [1.0, 0.0], [-1.0, 0.1], [0.0, 1.0], [0.1, -1.0]])
    assert references.certified_gap(X, X[0]) < 1e-9


def test_the_sum_of_distances_is_the_least_for_hard_rows():
    rng = np.random.default_rng(1)
    for _ in range(1500):
        X = hard_rows(rng)
        assert_least(X, rules.GeometricMedian()(X), X)


def test_the_sum_of_distances_is_the_least_for_a_thousand_rows():
    rng = np.random.default_rng(2)
    for few in (0, 20, 499):
        X = rng.standard_normal((1000, 20))
        X[:few] = X[0] + 1e-9 * X[:few]
        X[500:600] *= 1e8
        assert_least(X, rules.GeometricMedian()(X), X)


def test_the_sum_of_distances_to_mixed_rows_is_the_least():
    rng = np.random.default_rng(3)
    for _ in range(400):
        X = hard_rows(rng)
        f = int(rng.integers(0, (len(X) + 1) // 2))
        assert_least(references.nnm(X, f), rules.chain(rules.NNM(f), rules.GeometricMedian())(X), X)


def test_two_rows_that_nearly_agree_do_not_hold_it():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((11, 500)) + 3.0
    X[:2] = 1e-9 * rng.standard_normal((2, 500))
    found = rules.GeometricMedian()(X)
    X[:2] = 0.0
    assert np.linalg.norm(found - rules.GeometricMedian()(X)) < 1e-3 * np.linalg.norm(found)


def test_rows_on_a_line_keep_it_among_them():
    """Newton's system is singular there: weights that add up noise led a thousand spreads away."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        few = int(rng.integers(2, 20))
        X = np.vstack([10.0 ** rng.uniform(-15, -3) * rng.standard_normal((few, 1)), rng.standard_normal((few + 1, 1))])
        found = rules.GeometricMedian()(X)
        assert abs(found[0] - np.median(X)) <= 1e-6 * np.abs(X - np.median(X)).sum()


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
