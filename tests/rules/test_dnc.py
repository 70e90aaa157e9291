from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


def test_random_columns():
    X = matrix("normal", 9, 500, seed=10)
    made = rules.DnC(2, iterations=3, subsample=50, seed=4)
    draws = np.random.Generator(np.random.PCG64(4))
    good = set(range(9))
    for _ in range(3):
        columns = np.sort(draws.choice(500, 50, replace=False, shuffle=False))
        good &= set(np.argsort(references.dnc_scores(X[:, columns]))[:7].tolist())
    assert_close(made(X), X[sorted(good)].astype(np.float64).mean(axis=0), X)


def test_without_good_rows_it_falls_back_to_the_lowest_summed_projections():
    # Each column has another outlier, of another size: in many draws of one column each row is dropped somewhere.
    X = np.diag([5.0, 4.0, 3.0])
    for seed in range(3):
        draws = np.random.Generator(np.random.PCG64(seed))
        total = np.zeros(3)
        for _ in range(30):
            total += references.dnc_scores(X[:, draws.choice(3, 1, replace=False, shuffle=False)])
        kept = np.argsort(total)[:2]
        assert_close(rules.DnC(1, iterations=30, subsample=1, seed=seed)(X), X[kept].mean(axis=0), X)


@pytest.mark.parametrize("scale", [1e-250, 1e-3, 1e3, 1e250])
def test_the_scale_of_the_rows_does_not_decide_which_are_kept_then(scale):
    X = np.random.default_rng(2).permutation(np.diag([7.0, 6.0, 5.0, 4.0, 3.0]))
    for seed in range(5):
        found = rules.DnC(1, iterations=40, subsample=1, seed=seed)(scale * X)
        assert_close(found / scale, rules.DnC(1, iterations=40, subsample=1, seed=seed)(X), X, tolerance=1e-10)


def test_it_never_runs_out_of_rows():
    X = matrix("normal", 5, 300, seed=11)
    assert np.isfinite(rules.DnC(2, iterations=60, subsample=1, seed=1)(X)).all()


def test_the_filter_fraction_says_how_many_rows_go():
    X = np.array([[0.0], [1.0], [2.0], [9.0], [99.0]])
    assert rules.DnC(1, filter_fraction=0.5)(X) == pytest.approx(X.mean())
    assert rules.DnC(1, filter_fraction=1.5)(X) == pytest.approx(X[:4].mean())
    # The mean is 22.2 and the farthest from it is 99, then 0.
    assert rules.DnC(1, filter_fraction=2.0)(X) == pytest.approx(X[1:4].mean())
    assert rules.DnC(1, filter_fraction=3.0).min_rows == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.DnC(1, iterations=0), "iterations = 0; give a whole number above 0"),
        (lambda: rules.DnC(1, subsample=0), "subsample = 0; give a whole number above 0"),
        (lambda: rules.DnC(1, filter_fraction=0), "filter_fraction = 0; give a finite number above 0"),
        (lambda: rules.DnC(1, seed=-1), "seed = -1; give None or a whole number"),
        (lambda: rules.DnC(2, filter_fraction=3.0)(np.ones((5, 2))), "needs n > 3 f, so at least 7 rows"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
