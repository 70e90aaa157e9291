"""MeaMed, Bulyan, FABA, MDA, DnC, SignGuard: which rows or values they keep, against their references."""

from __future__ import annotations

import time

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules import mda
from tests.rules import references as ref
from tests.rules.data import KINDS, assert_close, matrix

SMALL = [(3, 1), (4, 6), (7, 20), (9, 33), (12, 5)]


def every_f(n):
    return range((n - 1) // 2 + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_meamed(kind, dtype):
    for n, d in [*SMALL, (30, 200)]:
        X = matrix(kind, n, d, seed=1, dtype=dtype)
        for f in every_f(n):
            assert_close(rules.MeaMed(f)(X), ref.mean_around_median(X, n - f), X)
            if n < 10:
                chained = rules.chain(rules.NNM(f), rules.MeaMed(f))(X)
                if kind in ("normal", "huge", "tiny", "near"):
                    assert_close(chained, ref.mean_around_median(ref.nnm(X, f), n - f), X)


@pytest.mark.parametrize("kind", KINDS)
def test_faba(kind):
    for n, d in [*SMALL, (25, 60)]:
        X = matrix(kind, n, d, seed=2)
        for f in every_f(n):
            assert_close(rules.FABA(f)(X), ref.faba(X, f), X)


@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "near", "zeros", "integers", "duplicates"])
def test_mda(kind):
    for n, d in SMALL:
        X = matrix(kind, n, d, seed=3)
        for f in every_f(n):
            assert_close(rules.MDA(f)(X), ref.mda(X, f), X)
            if kind == "normal":
                chained = rules.chain(rules.ARC(f), rules.MDA(f))(X)
                assert_close(chained, ref.mda(ref.arc(X, f), f), X)


@pytest.mark.parametrize("kind", ["random", "clusters", "outliers"])
def test_mda_of_thirty_rows_takes_seconds(kind):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((30, 50))
    if kind == "clusters":
        X = 5.0 * rng.standard_normal((3, 50))[rng.integers(0, 3, 30)] + X
    elif kind == "outliers":
        X[:6] *= 20.0
    start = time.process_time()
    distances = ref.distances(X) ** 2
    chosen = mda.least_diameter(distances, 6)
    assert time.process_time() - start < 60.0
    assert len(chosen) == 24
    # No pair of rows can be exchanged for a smaller diameter: a necessary condition that is quick to check.
    diameter = distances[np.ix_(chosen, chosen)].max()
    for out in chosen:
        for into in set(range(30)) - set(chosen):
            swapped = [into if i == out else i for i in chosen]
            assert distances[np.ix_(swapped, swapped)].max() >= diameter * (1 - 1e-12)


def test_mda_says_when_it_gives_up(monkeypatch):
    monkeypatch.setattr(mda, "LIMIT", 3)
    with pytest.raises(ValueError, match=r"MDA\(f=6\) gave up its exact search on n = 30 rows after looking at 3 rows"):
        rules.MDA(6)(np.random.default_rng(5).standard_normal((30, 4)))


@pytest.mark.parametrize("selection", ["krum", "mean", "median", "geometric-median"])
@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "near", "zeros"])
def test_bulyan(kind, selection):
    for n, f, d in [(3, 0, 4), (7, 1, 30), (11, 2, 8), (13, 2, 40)]:
        X = matrix(kind, n, d, seed=6, dtype=np.float64)
        assert_close(rules.Bulyan(f, selection=selection)(X), ref.bulyan(X, f, selection), X)
    X = matrix("normal", 11, 25, seed=7)
    chained = rules.chain(rules.ARC(2), rules.Bulyan(2, selection=selection))(X)
    assert_close(chained, ref.bulyan(ref.arc(X, 2), 2, selection), X)


@pytest.mark.parametrize("selection", ["krum", "mean", "median", "geometric-median"])
@pytest.mark.parametrize("p", [1, 3, 16])
def test_bulyan_in_other_norms(selection, p):
    X = matrix("normal", 11, 12, seed=8)
    assert_close(rules.Bulyan(2, selection=selection, p=p)(X), ref.bulyan(X, 2, selection, p), X)


@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "near"])
def test_dnc_of_all_columns(kind):
    for n, d in [(5, 4), (9, 40)]:
        X = matrix(kind, n, d, seed=9)
        for f in every_f(n):
            scores = ref.dnc_scores(X)
            kept = np.argsort(scores, kind="stable")[: n - f]
            assert_close(rules.DnC(f)(X), X[kept].astype(np.float64).mean(axis=0), X)


def test_dnc_of_random_columns():
    X = matrix("normal", 9, 500, seed=10)
    made = rules.DnC(2, iterations=3, subsample=50, seed=4)
    draws = np.random.Generator(np.random.PCG64(4))
    good = set(range(9))
    for _ in range(3):
        columns = np.sort(draws.choice(500, 50, replace=False, shuffle=False))
        good &= set(np.argsort(ref.dnc_scores(X[:, columns]))[:7].tolist())
    assert_close(made(X), X[sorted(good)].astype(np.float64).mean(axis=0), X)
    second = made(X)
    made.reset()
    made(X)
    assert np.array_equal(made(X), second)


def test_dnc_falls_back_to_the_lowest_summed_projections():
    # Each column has another outlier, of another size: in many draws of one column each row is dropped somewhere.
    X = np.diag([5.0, 4.0, 3.0])
    for seed in range(3):
        draws = np.random.Generator(np.random.PCG64(seed))
        total = np.zeros(3)
        for _ in range(30):
            total += ref.dnc_scores(X[:, draws.choice(3, 1, replace=False, shuffle=False)])
        kept = np.argsort(total)[:2]
        assert_close(rules.DnC(1, iterations=30, subsample=1, seed=seed)(X), X[kept].mean(axis=0), X)


def test_dnc_never_runs_out_of_rows():
    X = matrix("normal", 5, 300, seed=11)
    made = rules.DnC(2, iterations=60, subsample=1, seed=1)
    result = made(X)
    assert np.isfinite(result).all()
    assert rules.DnC(1, filter_fraction=3.0).min_rows == 4
    with pytest.raises(ValueError, match="needs n > 3 f, so at least 7 rows"):
        rules.DnC(2, filter_fraction=3.0)(X)


def test_signguard_by_hand():
    rng = np.random.default_rng(12)
    honest = np.abs(rng.standard_normal((6, 50))) * np.where(np.arange(50) % 3, 1.0, -1.0)
    honest /= np.linalg.norm(honest, axis=1)[:, None] / np.linspace(1.0, 2.0, 6)[:, None]
    flipped, long, short = -honest[:2], 10.0 * honest[:1], 0.01 * honest[:1]
    X = np.vstack([honest, flipped, long, short])
    median = np.median(np.linalg.norm(X, axis=1))
    expected = ref.clip(honest, median).mean(axis=0)
    assert_close(rules.SignGuard(fraction=1.0)(X), expected, X, tolerance=1e-12)
    chained = rules.chain(rules.StaticClipping(1e6), rules.SignGuard(fraction=1.0))
    assert_close(chained(X), expected, X, tolerance=1e-12)


def signguard(X, lower, upper):
    """LASA 5 with all columns: norm filter, MeanShift on shares of signs, clip to the median norm, mean."""
    from sklearn.cluster import MeanShift, estimate_bandwidth

    X = np.asarray(X, dtype=np.float64)
    norms = np.linalg.norm(X, axis=1)
    median = np.median(norms)
    shares = np.stack([[np.mean(x > 0), np.mean(x == 0), np.mean(x < 0)] for x in X])
    bandwidth = estimate_bandwidth(shares, quantile=max(0.5, 2 / len(X)), random_state=0)
    if bandwidth > 1e-12:
        labels = MeanShift(bandwidth=bandwidth).fit(shares).labels_
    else:
        labels = np.array([np.flatnonzero((shares == row).all(axis=1))[0] for row in shares])
    largest = max(np.unique(labels), key=lambda label: (np.sum(labels == label), -np.flatnonzero(labels == label)[0]))
    usual = (norms >= lower * median) & (norms <= upper * median)
    kept = usual & (labels == largest)
    kept = kept if kept.any() else usual
    return ref.clip(X, median)[kept].mean(axis=0)


@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "near", "zeros"])
@pytest.mark.parametrize(("n", "d"), [(3, 40), (9, 60), (20, 300)])
def test_signguard(kind, n, d):
    X = matrix(kind, n, d, seed=13)
    assert_close(rules.SignGuard(fraction=1.0)(X), signguard(X, 0.1, 3.0), X)
    assert_close(rules.SignGuard(0.8, 1.2, fraction=1.0)(X), signguard(X, 0.8, 1.2), X)


def test_signguard_looks_at_one_window_of_the_columns():
    X = np.ones((5, 1000))
    X[4, :] = -1.0
    made = rules.SignGuard(fraction=0.01, seed=3)
    assert np.array_equal(made(X), np.ones(1000))
    # Signs that differ outside the window go unnoticed; with the same seed it is the same window.
    Y = np.ones((5, 1000))
    start = int(np.random.Generator(np.random.PCG64(3)).integers(1000 - 10 + 1))
    Y[4, start : start + 10] = -1.0
    assert np.array_equal(rules.SignGuard(fraction=0.01, seed=3)(Y), np.ones(1000))
    Y[4] = -Y[4]
    assert (rules.SignGuard(fraction=0.01, seed=3)(Y) < 1.0).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.Bulyan(1, selection="best"), "choose from krum, mean, median, geometric-median"),
        (lambda: rules.Bulyan(2)(np.ones((10, 2))), r"n = 10 rows with f = 2, but it needs n >= 4f \+ 3"),
        (lambda: rules.SignGuard(lower=2.0), "give lower <= 1 <= upper"),
        (lambda: rules.SignGuard(fraction=1.5), r"a number in \(0, 1\]"),
        (lambda: rules.SignGuard()(np.ones((2, 2))), "needs n >= 3, so at least 3 rows"),
        (lambda: rules.DnC(1, subsample=0), "subsample = 0; give a whole number above 0"),
        (lambda: rules.DnC(1, seed=-1), "seed = -1; give None or a whole number"),
        (lambda: rules.MDA(2)(np.ones((4, 2))), "needs n > 2f, so at least 5 rows"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
