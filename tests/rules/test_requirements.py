"""Wrong arguments and too few rows: a ValueError that says what is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules

X = np.ones((8, 3))


@pytest.mark.parametrize("f", [-1, 0.5, 1.2, -0.1, "2", None, True, float("nan")])
def test_f_is_a_number_of_rows_or_a_fraction(f):
    with pytest.raises(ValueError, match=r"whole number of rows .* or a fraction of them in \[0, 0.5\)"):
        rules.Krum(f)


@pytest.mark.parametrize(
    "stage", [rules.TrimmedMean, rules.Krum, rules.MultiKrum, rules.NNM, rules.ARC], ids=lambda s: s.__name__
)
def test_too_few_rows_are_named(stage):
    with pytest.raises(ValueError, match=r"n = 8 rows with f = 4, but it needs n > 2f, so at least 9 rows"):
        stage(4)(X)
    assert np.isfinite(stage(3)(X)).all()


def test_a_fraction_is_floored():
    assert rules.Krum(0.3).resolve_f(10) == 3
    assert rules.Krum(0.29).resolve_f(100) == 29
    assert rules.Krum(0.49).resolve_f(3) == 1
    ten = np.arange(10.0)[:, None] ** 2
    assert rules.TrimmedMean(0.25)(ten) == rules.TrimmedMean(2)(ten)


def test_f_stays_behind_bucketing_while_rows_shrink():
    chain = rules.chain(rules.Bucketing(s=2, seed=0), rules.TrimmedMean(4))
    with pytest.raises(ValueError, match=r"n = 8 rows with f = 4"):
        chain(np.ones((16, 3)))
    assert chain.min_rows == 17
    assert rules.chain(rules.Bucketing(s=2), rules.Krum(0.25)).min_rows == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.MultiKrum(1, m=0), "m = 0; give None or a whole number above 0"),
        (lambda: rules.Krum(1, num_neighbors=-2), "num_neighbors = -2; give None or a whole number above 0"),
        (lambda: rules.Krum(1, p=0.5), "p = 0.5; give the order of an lp norm: a number from 1 to infinity"),
        (lambda: rules.GeometricMedian(tol=0), "tol = 0; give a finite number above 0"),
        (lambda: rules.GeometricMedian(max_iterations=1.5), "max_iterations = 1.5; give a whole number above 0"),
        (lambda: rules.Bucketing(s=0), "s = 0; give None or a whole number above 0"),
        (lambda: rules.StaticClipping(float("inf")), "max_norm = inf; give a finite number above 0"),
        (lambda: rules.chain(), "pre-aggregations .* and then at most one rule"),
        (lambda: rules.chain(rules.Krum(1), rules.Median()), "which comes last"),
        (lambda: rules.chain("krum"), "give rules and pre-aggregations"),
        (lambda: rules.MultiKrum(1, m=9)(X), "needs n > 2f and n >= m = 9, so at least 9 rows"),
        (lambda: rules.Krum(1, num_neighbors=8)(X), "n > num_neighbors = 8, so at least 9 rows"),
        (lambda: rules.Median()(X[:0]), "no rows to aggregate"),
        (lambda: rules.Median()(X[0]), r"take an \(n, d\) array"),
        (lambda: rules.Median()(X.astype(int)), "floats up to 64 bits"),
        (lambda: rules.Median()(X, layers=[("a", 2)]), "the layers hold 2 values in all, but the rows have 3"),
        (lambda: rules.Median()(X, layers=[("a", 4), ("b", -1)]), "give sizes of 0 or more"),
    ],
)
def test_other_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_least_rows():
    assert rules.Median().min_rows == 1
    assert rules.Krum(4).min_rows == rules.chain(rules.ARC(4), rules.NNM(4), rules.Median()).min_rows == 9
    assert rules.MultiKrum(1, m=5, num_neighbors=6).min_rows == 7


def test_chains_flatten_and_read_as_they_were_written():
    inner = rules.chain(rules.NNM(2), rules.Krum(2))
    whole = rules.chain(rules.ARC(2), inner)
    assert repr(whole) == "chain(ARC(f=2), NNM(f=2), Krum(f=2))"
    assert repr(rules.chain(rules.chain(rules.ARC(2), rules.NNM(2)), rules.Krum(2))) == repr(whole)
    assert rules.chain(rules.Median()).name == "median"


def test_pre_aggregations_alone():
    rows = np.random.default_rng(0).standard_normal((9, 4))
    both = rules.chain(rules.ARC(2), rules.NNM(2))
    assert np.allclose(both(rows), rules.NNM(2)(rules.ARC(2)(rows)))
    assert np.allclose(rules.chain(both, rules.Median())(rows), rules.Median()(both(rows)))
