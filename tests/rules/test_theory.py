"""Proven coefficients, by hand and against rows that hypothesis searches for; measured ones, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from flwr_robust import rules
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.theory import deviation, measure_with
from tests.rules.chains import RULES, make

N, F = 10, 2
PROVEN = [name for name in RULES if name != "mean" and rules.kappa(make(name), N, F)]
CHAINS = [before + name for before in ("", "nnm+", "arc+", "arc+nnm+") for name in (*PROVEN, "slsgd alpha=1.0")]


def test_coefficients_by_hand():
    of = {
        rules.TrimmedMean(2): 6 * 2 / 6 * (1 + 2 / 6),
        rules.Krum(2): 6 * (1 + 2 / 6),
        rules.Krum(2, num_neighbors=7): 6 * (1 + 2 / 6),
        rules.GeometricMedian(): 4 * (1 + 2 / 6) ** 2,
        rules.GeometricMedian(p=1): 4 * (1 + 2 / 6) ** 2,
        rules.Median(): 4 * (1 + 2 / 6) ** 2,
        rules.SMEA(2): 4 * 2 / 8 * (1 + 2 / 6) ** 2,
        rules.SLSGD(2, alpha=1.0): 6 * 2 / 6 * (1 + 2 / 6),
        rules.chain(rules.NNM(2), rules.Krum(2)): 8 * 2 / 8 * (8 + 1),
        rules.chain(rules.ARC(2), rules.Krum(2)): 8 + 4 / 6,
        rules.chain(rules.ARC(2), rules.NNM(0.2), rules.Krum(2)): 18 + 4 / 6,
    }
    for rule, expected in of.items():
        assert rules.kappa(rule, N, F) == pytest.approx(expected), rule
    assert rules.kappa(rules.Mean(), N, 0) == 0.0
    assert PROVEN == ["geometric-median", "krum", "median", "smea", "trimmed-mean"]


def test_no_coefficient_where_none_is_proven():
    for rule in (
        rules.Mean(),
        rules.MultiKrum(2),
        rules.SLSGD(2),
        rules.MeanOfMedians(2),
        rules.Krum(2, p=1),
        rules.GeometricMedian(p=3),
        rules.Krum(2, num_neighbors=6),
        rules.Krum(1),
        rules.chain(rules.Bucketing(f=2), rules.Median()),
        rules.chain(rules.StaticClipping(1.0), rules.Median()),
        rules.chain(rules.NNM(1), rules.Median()),
    ):
        assert rules.kappa(rule, N, F) is None, rule
    assert rules.kappa(rules.Median(), 4, 2) is None
    assert rules.kappa(rules.Median(), 4, -1) is None


# ---------------------------------------------------------------- a search for rows that break them


@st.composite
def rounds(draw):
    """Honest rows, then f hostile ones: collinear, coincident, huge, on top of honest ones, or anything."""
    f = draw(st.integers(0, 4))
    honest = draw(st.integers(f + 1, f + 7))
    d = draw(st.integers(1, 4))
    value = st.floats(-10, 10, allow_subnormal=False).map(lambda v: round(v, 3))
    row = st.lists(value, min_size=d, max_size=d).map(np.array)
    few = st.lists(row, min_size=1, max_size=3)
    # Few different rows among many make ties and clusters likely.
    choices = draw(few) if draw(st.booleans()) else [draw(row) for _ in range(honest)]
    X = np.array([choices[draw(st.integers(0, len(choices) - 1))] for _ in range(honest)])
    mean, spread = X.mean(axis=0), X.std(axis=0)
    shared = draw(row) * 10.0 ** draw(st.integers(-3, 9))
    hostile = []
    for _ in range(f):
        kind = draw(st.sampled_from(["shared", "copy", "line", "hide", "free"]))
        factor = draw(st.floats(-30, 30).map(lambda v: round(v, 2)))
        hostile.append(
            {
                "shared": shared,
                "copy": X[draw(st.integers(0, honest - 1))],
                "line": factor * mean,
                "hide": mean + factor * spread,
                "free": draw(row) * 10.0 ** draw(st.integers(-3, 9)),
            }[kind]
        )
    order = draw(st.permutations(range(honest + f)))
    rows = np.vstack([X, *hostile]) if hostile else X
    position = np.argsort(order)
    return rows[list(order)], sorted(position[:honest].tolist()), f


@settings(max_examples=300, deadline=None)
@given(case=rounds())
def test_errors_stay_within_the_proven_coefficients(case):
    X, honest, f = case
    inside = X[honest]
    mean = inside.mean(axis=0)
    variance = np.square(inside - mean).sum(axis=1).mean()
    rounding = 1e-9 * (1 + np.abs(inside).max()) ** 2
    for spec in CHAINS:
        rule = make(spec, f)
        coefficient = rules.kappa(rule, len(X), f)
        output = rule(X)
        error = np.square(output - mean).sum()
        target(float(error / (coefficient * variance + rounding)), label=spec)
        assert error <= coefficient * variance * (1 + 1e-9) + rounding, spec
        if spec.startswith("arc+"):
            # ARC, Lemma 5.1, assumes that the rule stays in the ball of its inputs (ARC, C.1): these may leave it.
            slack = np.sqrt(X.shape[1]) if spec.endswith(("+median", "trimmed-mean", "alpha=1.0")) else 1.0
            longest = np.linalg.norm(inside, axis=1).max()
            assert np.linalg.norm(output) <= slack * longest * (1 + 1e-9) + 1e-9, spec


# ---------------------------------------------------------------- liars at two scales


def two_scales(rng):
    """Honest rows of one size; liars of two others, anywhere within float32; in random order."""
    f = int(rng.integers(1, 5))
    honest, d = int(rng.integers(f + 1, f + 8)), int(rng.choice([1, 2, 3, 20]))
    size = 10.0 ** rng.uniform(-20, 10)
    X = size * rng.standard_normal((honest, d))
    if rng.random() < 0.3:
        X += size * 10.0 ** rng.uniform(0, 4) * rng.standard_normal(d)
    if rng.random() < 0.3:
        X[rng.integers(0, honest, honest // 2)] = X[0]
    scales = 10.0 ** np.minimum([rng.uniform(-3, 38), rng.uniform(-2, 12) + np.log10(size)], 37.0)
    return X, liars_at(rng, scales, f, X)


def liars_at(rng, scales, f, honest):
    """Liars of these sizes: each anywhere, all in one place, or along the honest mean; some opposite to others."""
    d, mean = honest.shape[1], honest.mean(axis=0)
    directions = [rng.standard_normal(d), np.ones(d), mean / (np.linalg.norm(mean) or 1.0)]
    liars = [scales[rng.integers(0, 2)] * directions[rng.integers(0, 3)] for _ in range(f)]
    for row in range(1, f):
        if rng.random() < 0.3:
            liars[row] = -liars[row - 1]
    return np.array(liars)


def assert_within_kappa(rng, honest, liars):
    for dtype, rounding in ((np.float32, 1e-6), (np.float64, 1e-9)):
        X = np.vstack([honest, liars]).astype(dtype)
        order = rng.permutation(len(X))
        inside = X[: len(honest)].astype(np.float64)
        mean = inside.mean(axis=0)
        variance = np.square(inside - mean).sum(axis=1).mean()
        for spec in (*CHAINS, *(f"{before}geometric-median p=1" for before in ("", "nnm+", "arc+"))):
            rule = make(spec, len(liars))
            error = np.linalg.norm(rule(X[order]).astype(np.float64) - mean)
            bound = np.sqrt(rules.kappa(rule, len(X), len(liars)) * variance)
            assert error <= bound + rounding * np.abs(inside).max(), spec


def test_liars_at_two_scales_stay_within_the_proven_coefficients():
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert_within_kappa(rng, *two_scales(rng))


def test_liars_at_1e20_and_1e6_beside_honest_rows_of_1e_3():
    rng = np.random.default_rng(1)
    for _ in range(100):
        f = int(rng.integers(1, 5))
        honest = 1e-3 * rng.standard_normal((f + int(rng.integers(1, 8)), int(rng.choice([1, 3, 50]))))
        assert_within_kappa(rng, honest, liars_at(rng, [1e20, 1e6], f, honest))


# ---------------------------------------------------------------- measured


def measured(X, aggregate, honest):
    return deviation(measure_with(Updates.of_rows(X), aggregate), honest)


def test_the_measured_coefficient_is_that_of_nnm_26():
    X = np.array([[0.0], [2.0], [4.0], [100.0]])
    # Honest mean 2, honest spread sqrt(8/3), median of all 3.
    assert rules.empirical_kappa(rules.Median(), X, [0, 1, 2]) == pytest.approx(1 / np.sqrt(8 / 3))
    same = np.array([[1.0], [1.0], [1.0], [7.0]])
    assert rules.empirical_kappa(rules.Median(), same, [0, 1, 2]) == 0.0
    assert rules.empirical_kappa(rules.Mean(), same, [0, 1, 2]) == np.inf


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("rule", [rules.Mean(), rules.Median(), rules.chain(rules.NNM(f=2), rules.Krum(f=2))], ids=repr)
def test_a_deviation_says_the_same(rule, offset):
    X, honest = np.random.default_rng(0).normal(size=(7, 300)) + offset, [0, 2, 3, 5]
    found = measured(X, rule(X), honest)
    mean = X[honest].mean(axis=0)
    assert found.error == pytest.approx(np.linalg.norm(rule(X) - mean), rel=1e-6)
    assert found.spread == pytest.approx(np.sqrt(np.square(X[honest] - mean).sum(axis=1).mean()), rel=1e-6)
    assert found.mean_norm == pytest.approx(np.linalg.norm(mean), rel=1e-9)
    assert found.kappa == pytest.approx(rules.empirical_kappa(rule, X, honest), rel=1e-6)


def test_a_deviation_by_hand():
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


# ---------------------------------------------------------------- rho


def test_contraction_constants_by_hand():
    assert rules.rho(rules.TrimmedMean(2), 10, 2, d=4) == pytest.approx(3 * 0.2 / 0.6 * 2)
    assert rules.rho(rules.TrimmedMean(2), 10, 2, d=10**6) == pytest.approx(3 * 0.2 / 0.6 * 8**0.5)
    assert rules.rho(rules.TrimmedMean(2), 10, 2) == rules.rho(rules.TrimmedMean(0.2), 10, 2, d=8)
    assert rules.rho(rules.FABA(2), 10, 2) == pytest.approx(2 * 0.2 / 0.4)
    assert rules.rho(rules.CenteredClipping(), 10, 2) == pytest.approx(4.8**0.5)


@pytest.mark.parametrize(
    ("rule", "n", "f"),
    [
        (rules.FABA(4), 12, 4),
        (rules.TrimmedMean(1), 10, 2),
        (rules.CenteredClipping(iterations=3), 10, 2),
        (rules.TrimmedMean(5), 10, 5),
        (rules.Mean(), 10, 2),
        (rules.SLSGD(2), 10, 2),
        (rules.chain(rules.NNM(2), rules.TrimmedMean(2)), 10, 2),
    ],
)
def test_what_has_no_proven_contraction_constant(rule, n, f):
    assert rules.rho(rule, n, f) is None


@pytest.mark.parametrize("d", [1, 3, 40])
@pytest.mark.parametrize("make_rule", [rules.TrimmedMean, rules.FABA])
def test_no_rows_go_beyond_it_and_some_go_beyond_a_tenth(make_rule, d):
    rule, rng, worst = make_rule(F), np.random.default_rng(d), 0.0
    for _ in range(300):
        X = rng.standard_normal((N, d))
        X[:F] = rng.choice([0.5, 1, 3, 100]) * rng.standard_normal(d)
        honest = X[F:].mean(axis=0)
        radius = np.linalg.norm(X[F:] - honest, axis=1).max()
        worst = max(worst, float(np.linalg.norm(rule(X) - honest)) / radius)
    assert 0.1 * rules.rho(rule, N, F, d) < worst <= rules.rho(rule, N, F, d)
