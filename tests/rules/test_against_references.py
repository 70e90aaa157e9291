"""Every rule and chain against its float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references as ref
from tests.rules.data import KINDS, assert_close, matrix

SIZES = [(3, 1), (3, 7), (4, 1000), (5, 64), (8, 33), (17, 5000), (30, 200), (60, 130)]

LINEAR_AND_COORDINATE = {
    "mean": (lambda f: rules.Mean(), lambda X, f: ref.mean(X)),
    "median": (lambda f: rules.Median(), lambda X, f: ref.median(X)),
    "trimmed-mean": (lambda f: rules.TrimmedMean(f), ref.trimmed_mean),
    "krum": (lambda f: rules.Krum(f), ref.krum),
    "multi-krum": (lambda f: rules.MultiKrum(f), ref.multi_krum),
    "arc+mean": (lambda f: rules.chain(rules.ARC(f), rules.Mean()), lambda X, f: ref.mean(ref.arc(X, f))),
    "nnm+median": (lambda f: rules.chain(rules.NNM(f), rules.Median()), lambda X, f: ref.median(ref.nnm(X, f))),
    "nnm+trimmed-mean": (
        lambda f: rules.chain(rules.NNM(f), rules.TrimmedMean(f)),
        lambda X, f: ref.trimmed_mean(ref.nnm(X, f), f),
    ),
    "arc+nnm+trimmed-mean": (
        lambda f: rules.chain(rules.ARC(f), rules.NNM(f), rules.TrimmedMean(f)),
        lambda X, f: ref.trimmed_mean(ref.nnm(ref.arc(X, f), f), f),
    ),
    "nnm+arc+median": (
        lambda f: rules.chain(rules.NNM(f), rules.ARC(f), rules.Median()),
        lambda X, f: ref.median(ref.arc(ref.nnm(X, f), f)),
    ),
    "nnm+multi-krum": (
        lambda f: rules.chain(rules.NNM(f), rules.MultiKrum(f)),
        lambda X, f: ref.multi_krum(ref.nnm(X, f), f),
    ),
}


def legal_fs(n):
    """Every f for few rows; the ends and the middle for many, where references are slow."""
    largest = (n - 1) // 2
    return range(largest + 1) if n <= 8 else sorted({0, 1, largest // 2, largest})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LINEAR_AND_COORDINATE)
def test_rule_equals_reference(name, kind):
    make, reference = LINEAR_AND_COORDINATE[name]
    for n, d in SIZES:
        if n == 60 and "nnm" in name:
            continue
        X = matrix(kind, n, d, seed=1)
        for f in legal_fs(n):
            assert_close(make(f)(X), reference(X, f), X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pre_aggregations_equal_references(kind, dtype):
    for n, d in [(3, 1), (5, 64), (8, 33), (17, 500)]:
        X = matrix(kind, n, d, seed=2, dtype=dtype)
        for f in legal_fs(n):
            for got, expected in ((rules.NNM(f)(X), ref.nnm(X, f)), (rules.ARC(f)(X), ref.arc(X, f))):
                assert got.dtype == dtype
                # Row by row: a hostile row must not blur the others.
                for row, target in zip(got, expected, strict=True):
                    assert_close(row, target, X)


@pytest.mark.parametrize("p", [1, 1.5, 3, 16, np.inf])
def test_lp_krum_equals_reference(p):
    for kind in ("normal", "hostile", "tiny", "zeros"):
        X = matrix(kind, 9, 40, seed=3)
        assert_close(rules.Krum(3, p=p)(X), ref.krum(X, 3, p=p), X)
        assert_close(rules.MultiKrum(3, m=4, p=p)(X), ref.multi_krum(X, 3, m=4, p=p), X)
        chained = rules.chain(rules.NNM(3), rules.Krum(3, p=p))(X)
        assert_close(chained, ref.krum(ref.nnm(X, 3), 3, p=p), X)


def test_number_of_neighbours():
    X = matrix("normal", 9, 20, seed=4)
    assert_close(rules.Krum(2, num_neighbors=5)(X), ref.krum(X, 2, num_neighbors=5), X)
    assert_close(rules.MultiKrum(2, m=3, num_neighbors=1)(X), ref.multi_krum(X, 2, m=3, num_neighbors=1), X)


@pytest.mark.parametrize("kind", KINDS)
def test_static_clipping_equals_reference(kind):
    X = matrix(kind, 7, 30, seed=5)
    threshold = float(np.median(np.linalg.norm(X.astype(np.float64), axis=1))) or 1.0
    for row, target in zip(rules.StaticClipping(threshold)(X), ref.clip(X, threshold), strict=True):
        assert_close(row, target, X)


@pytest.mark.parametrize(("n", "f", "size"), [(17, 4, 2), (17, 8, 1), (10, 1, 4), (7, 0, 1)])
def test_bucketing_averages_every_row_once(n, f, size):
    X = matrix("normal", n, 12, seed=6)
    buckets = rules.Bucketing(f=f, seed=1)(X)
    order = np.random.default_rng(1).permutation(n)
    expected = [X[order[k : k + size]].astype(np.float64).mean(axis=0) for k in range(0, n, size)]
    assert_close(buckets, expected, X)


def test_bucketing_draws_anew_and_starts_again_with_reset():
    X = matrix("normal", 9, 5, seed=7)
    stage = rules.Bucketing(s=2, seed=3)
    first, second = stage(X), stage(X)
    assert not np.array_equal(first, second)
    stage.reset()
    assert np.array_equal(first, stage(X))
    assert np.array_equal(first, rules.Bucketing(s=2, seed=3)(X))


def test_worked_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [100.0]])
    assert rules.Mean()(X) == 26.0
    assert rules.Median()(X) == 2.0
    assert rules.TrimmedMean(1)(X) == 2.0
    # Two nearest others: 0 -> 1 + 9, 1 -> 1 + 4, 3 -> 4 + 9.
    assert rules.Krum(1)(X) == 1.0
    assert rules.MultiKrum(1, m=2)(X) == 0.5
    assert np.array_equal(rules.NNM(1)(X)[:3], np.full((3, 1), 4 / 3))
    # k = floor(2/4 * 3) = 1: clipped to the second largest norm.
    assert np.array_equal(rules.ARC(1)(X), [[0.0], [1.0], [3.0], [3.0]])
    assert rules.chain(rules.ARC(1), rules.TrimmedMean(1))(X) == 2.0
