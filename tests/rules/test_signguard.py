from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


def test_by_hand():
    rng = np.random.default_rng(12)
    honest = np.abs(rng.standard_normal((6, 50))) * np.where(np.arange(50) % 3, 1.0, -1.0)
    honest /= np.linalg.norm(honest, axis=1)[:, None] / np.linspace(1.0, 2.0, 6)[:, None]
    flipped, long, short = -honest[:2], 10.0 * honest[:1], 0.01 * honest[:1]
    X = np.vstack([honest, flipped, long, short])
    expected = references.clip(honest, np.median(np.linalg.norm(X, axis=1))).mean(axis=0)
    assert_close(rules.SignGuard(fraction=1.0)(X), expected, X, tolerance=1e-12)
    chained = rules.chain(rules.StaticClipping(1e6), rules.SignGuard(fraction=1.0))
    assert_close(chained(X), expected, X, tolerance=1e-12)


@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "near", "zeros"])
def test_all_columns(kind):
    for n, d in [(3, 40), (9, 60), (20, 300)]:
        X = matrix(kind, n, d, seed=13)
        for lower, upper in [(0.1, 3.0), (0.8, 1.2)]:
            found = rules.SignGuard(lower, upper, fraction=1.0)(X)
            assert_close(found, references.signguard(X, lower, upper), X)


def test_it_looks_at_one_window_of_the_columns():
    X = np.ones((5, 1000))
    X[4, :] = -1.0
    assert np.array_equal(rules.SignGuard(fraction=0.01, seed=3)(X), np.ones(1000))
    # Signs that differ outside the window go unnoticed; with the same seed it is the same window.
    Y = np.ones((5, 1000))
    start = int(np.random.Generator(np.random.PCG64(3)).integers(1000 - 10 + 1))
    Y[4, start : start + 10] = -1.0
    assert np.array_equal(rules.SignGuard(fraction=0.01, seed=3)(Y), np.ones(1000))
    Y[4] = -Y[4]
    assert (rules.SignGuard(fraction=0.01, seed=3)(Y) < 1.0).any()


def test_where_no_row_passes_both_filters_the_norms_count():
    # The largest cluster's norms are far from the median, 1: of short ones there are as many as of long ones.
    X = np.array([[1e-3, 1e-3], [1e3, 1e3], [1e3, 1e3], [1e-3, 1e-3], [1.0, -1.0]])
    assert np.array_equal(rules.SignGuard(fraction=1.0)(X), X[4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.SignGuard(lower=2.0), "lower = 2.0 and upper = 3.0; give lower <= 1 <= upper"),
        (lambda: rules.SignGuard(upper=0.5), "give lower <= 1 <= upper"),
        (lambda: rules.SignGuard(fraction=1.5), r"fraction = 1.5; give a number in \(0, 1\]"),
        (lambda: rules.SignGuard(lower=0), "lower = 0; give a finite number above 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
