"""The line search: the factor with the largest damage, and factors that cannot be tried."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from flwr_robust import rules
from tests.clients.attacks.data import DTYPES, draw, mean_of, std_of


def krum(f):
    """Krum over the n - f - 1 nearest others (NNM 8.1.2)."""

    def rule(rows):
        distances = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2)
        scores = np.sort(distances, axis=1)[:, 1 : len(rows) - f].sum(axis=1)
        return rows[int(np.argmin(scores))]

    return rule


def median(rows):
    return np.median(rows, axis=0)


def damage(honest, direction, f, rule, tau):
    """Return the distance between the rule's output under this factor and the honest mean."""
    mean = mean_of(honest)
    malicious = np.repeat((mean + tau * direction)[None], f, axis=0).astype(honest.dtype)
    output = np.asarray(rule(np.vstack([honest, malicious])), dtype=np.float64)
    return float(np.sqrt(((output - mean) ** 2).sum()))


RULES = {
    "median": (median, 2),
    "krum": (krum(2), 2),
    "chain": (rules.chain(rules.NNM(f=2), rules.TrimmedMean(f=2)), 2),
    "arc chain": (rules.chain(rules.ARC(f=3), rules.NNM(f=3), rules.Krum(f=3)), 3),
    "mean": (lambda rows: rows.mean(axis=0), 1),
}


OPTIMAL = {
    "foe": (attacks.FallOfEmpires, lambda x: -mean_of(x)),
    "alie": (attacks.ALittleIsEnough, std_of),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("family", OPTIMAL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_optimal_does_the_largest_damage(name, family, dtype):
    (rule, f), (attack, direction) = RULES[name], OPTIMAL[family]
    honest = draw(9, 25, dtype, seed=3)
    towards = direction(honest)
    damages = {tau: damage(honest, towards, f, rule, tau) for tau in np.arange(0, 10.25, 0.25)}
    optimal = attack("optimal")
    tau = optimal.factor(honest, f, rule)
    assert tau in damages
    assert damages[tau] >= max(damages.values()) * (1 - 1e-6)
    expected = mean_of(honest) + tau * towards
    np.testing.assert_allclose(optimal(honest, f, rule=rule)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "rule", [rules.Krum(f=2), rules.chain(rules.NNM(f=2), rules.Median()), lambda rows: np.median(rows, axis=0)]
)
def test_the_mean_stands_for_what_is_not_seen(rule):
    honest, own, unseen, f = draw(5, 30), draw(2, 30, seed=1), 3, 2
    mean = np.vstack([honest, own]).mean(axis=0)

    def damage(epsilon):
        rows = np.vstack([honest, np.tile(mean, (unseen, 1)), np.tile(mean - epsilon * mean, (f, 1))])
        return float(np.linalg.norm(rule(rows) - mean))

    made = attacks.FallOfEmpires("optimal")(honest, f, rule=rule, own=own, unseen=unseen)
    tau = float(np.median((mean - made[0]) / mean))
    assert damage(tau) >= max(damage(factor) for factor in attacks.FACTORS) * (1 - 1e-6)


def test_optimal_against_the_mean_takes_the_largest_factor():
    # The mean's error grows with tau, whatever the data: f / n * tau * |a|.
    honest = draw(5, 8)
    best, damages = attacks.line_search(honest, np.ones(8), 2, lambda rows: rows.mean(axis=0), [0, 1, 4, 2])
    assert best == 4
    np.testing.assert_allclose(damages, 2 / 7 * np.sqrt(8) * np.array([0, 1, 4, 2]), atol=1e-12)


def test_ties_take_the_smallest_factor():
    assert attacks.line_search(draw(5, 4), np.ones(4), 1, lambda rows: rows[0], [3.0, 1.0, 2.0])[0] == 1.0


def test_search_leaves_rule_and_updates_alone():
    class Counting:
        calls = 0
        rng = np.random.default_rng(0)

        def __call__(self, rows):
            self.calls += 1
            return rows[self.rng.integers(len(rows))]

    rule, honest = Counting(), draw(5, 4)
    rule.rng = np.random.default_rng(7)
    before = honest.copy()
    attacks.FallOfEmpires("optimal")(honest, 1, rule=rule)
    assert rule.calls == 0
    assert rule.rng.integers(1 << 40) == np.random.default_rng(7).integers(1 << 40)
    np.testing.assert_array_equal(honest, before)


def test_factors_that_the_rule_refuses_are_passed_over():
    def picky(rows):
        if abs(rows[-1, 0]) > 4:
            raise ValueError("row too long")
        return rows[-1]

    honest = np.zeros((3, 2))
    best, damages = attacks.line_search(honest, np.ones(2), 1, picky, [1.0, 3.0, 9.0])
    assert best == 3.0
    assert np.isnan(damages).tolist() == [False, False, True]


def test_factors_that_overflow_are_passed_over():
    honest = np.full((3, 2), 1e38, dtype=np.float32)
    best, _ = attacks.line_search(honest, np.full(2, 1e38), 1, lambda rows: rows[-1], [1.0, 2.0, 9.0])
    assert best == 2.0


def test_a_rule_that_refuses_everything():
    with pytest.raises(attacks.SearchError, match=r"none of 41 factors.*3 honest and 2 malicious.*n > 2f"):
        attacks.ALittleIsEnough("optimal")(draw(3, 4), 2, rule=rules.Krum(f=3))


def test_a_bug_in_the_rule_is_not_hidden():
    with pytest.raises(TypeError):
        attacks.ALittleIsEnough("optimal")(draw(3, 4), 1, rule=lambda: None)
