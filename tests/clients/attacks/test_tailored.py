"""MixTailor's attacks against its sections 5 and A.4, in plain float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from clients import attacks
from flwr_robust import rules
from tests.clients.attacks.data import DTYPES, draw

F = 2


LAMBDAS = (0.0, 0.1, 0.3, 0.5, 1.0, 2.0, 4.0, 10.0)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tailored(epsilon, dtype):
    honest = draw(7, 30, dtype)
    expected = -epsilon * honest.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(attacks.Tailored(epsilon)(honest, F), [expected] * F, rtol=1e-5, atol=1e-6)


def test_random_epsilon_draws_each_choice_as_often():
    honest = np.ones((3, 1))
    attack = attacks.RandomEpsilon((0.1, 10.0), seed=1)
    sent = [round(-float(attack(honest, 1)[0, 0]), 6) for _ in range(400)]
    assert set(sent) == {0.1, 10.0}
    assert 160 < sent.count(0.1) < 240


def worst(pool, honest, factor):
    mean = honest.astype(np.float64).mean(axis=0)
    rows = np.vstack([honest.astype(np.float64), np.tile(-factor * mean, (F, 1))])
    return max(float(np.asarray(rule(rows), dtype=np.float64) @ mean) for rule in pool)


POOLS = {
    "one": [rules.Krum(f=F)],
    "linear and by coordinate": [rules.Krum(f=F), rules.Median(), rules.GeometricMedian()],
    "chain": [rules.chain(rules.ARC(f=F), rules.NNM(f=F), rules.TrimmedMean(f=F)), rules.Krum(f=F)],
    "lp norms": [rules.Krum(f=F, p=3), rules.GeometricMedian(p=4), rules.Median()],
    "any callable": [lambda rows: np.median(rows, axis=0), lambda rows: rows.mean(axis=0), rules.LASA()],
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
def test_pool_attack_finds_what_trying_everything_finds(name, dtype, seed):
    honest, pool = draw(9, 25, dtype, seed), POOLS[name]
    by_factor = {factor: worst(pool, honest, factor) for factor in LAMBDAS}
    attack = attacks.PoolAttack(pool, LAMBDAS)
    chosen = attack.choose(attacks.Sight(honest, F))
    assert by_factor[chosen] <= min(by_factor.values()) + 1e-5 * abs(min(by_factor.values()))
    expected = -chosen * honest.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(attack(honest, F), [expected] * F, rtol=1e-5, atol=1e-6)


def test_pool_attack_by_hand():
    # Rows 1, 1, 1 and two attackers at -lambda: the mean is (3 - 2 lambda) / 5, the median 1. Against the mean
    # the largest lambda is worst; with the median in the pool nothing helps, and the least lambda is taken.
    honest = np.ones((3, 1))
    factors = [3.0, 1.0, 2.0]
    assert attacks.PoolAttack([rules.Mean()], factors).choose(attacks.Sight(honest, F)) == 3.0
    assert attacks.PoolAttack([rules.Mean(), rules.Median()], factors).choose(attacks.Sight(honest, F)) == 1.0


def test_the_default_pool_is_the_servers():
    honest = draw(11, 8, seed=4)
    pool = [rules.Krum(f=F), rules.Median(), rules.TrimmedMean(f=F)]
    by_pool = attacks.PoolAttack(pool)(honest, F)
    server = rules.MixTailor(pool=pool, seed=1)
    np.testing.assert_array_equal(attacks.PoolAttack()(honest, F, rule=server), by_pool)
    np.testing.assert_array_equal(attacks.PoolAttack()(honest, F, rule=partial(server, layers=[("w", 8)])), by_pool)
    assert server.last_drawn is None  # the server's draws are its own
    alone = attacks.PoolAttack([pool[0]])(honest, F)
    np.testing.assert_array_equal(attacks.PoolAttack()(honest, F, rule=pool[0]), alone)


def test_behind_a_pre_aggregation_the_pool_is_too():
    honest = draw(11, 8, seed=4)
    pool = [rules.Krum(f=F), rules.Median()]
    server = rules.chain(rules.NNM(f=F), rules.MixTailor(pool=pool, seed=1))
    mixed = [rules.chain(rules.NNM(f=F), rule) for rule in pool]
    np.testing.assert_array_equal(attacks.PoolAttack()(honest, F, rule=server), attacks.PoolAttack(mixed)(honest, F))


def test_the_papers_pool_of_64():
    honest = draw(10, 12, seed=4)
    chosen = attacks.PoolAttack(factors=(0.1, 10.0)).choose(attacks.Sight(honest, F, rules.MixTailor(f=F)))
    pool = rules.MixTailor(f=F).candidates(12)
    by_factor = {factor: worst(pool, honest, factor) for factor in (0.1, 10.0)}
    assert len(pool) == 64
    assert by_factor[chosen] == min(by_factor.values())


def test_bulyan_leaves_the_pool_where_there_are_too_few():
    assert len(rules.MixTailor(f=F).candidates(10)) == 48
    honest = draw(8, 6)
    assert attacks.PoolAttack(factors=(1.0,)).choose(attacks.Sight(honest, F, rules.MixTailor(f=F))) == 1.0


def test_rules_that_refuse_or_break_down():
    honest = draw(4, 3)

    def broken(rows):
        return np.full(3, np.nan) if rows[-1, 0] < -0.5 else rows.mean(axis=0)

    mean = honest.mean(axis=0)
    assert mean[0] > 0
    factor = 1 / float(mean[0])
    # A rule that breaks down is as bad as can be; one that refuses has no say.
    pool = [broken, rules.Krum(f=9)]
    assert attacks.PoolAttack(pool, (0.0, factor)).choose(attacks.Sight(honest, F)) == factor
    with pytest.raises(attacks.SearchError, match=r"4 honest and 2 malicious rows"):
        attacks.PoolAttack([rules.Krum(f=9)])(honest, F)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.Tailored(-1), r"Tailored was given epsilon = -1; give a finite number of 0 or more"),
        (lambda: attacks.RandomEpsilon(()), r"RandomEpsilon was given choices = \(\)"),
        (lambda: attacks.RandomEpsilon([1, -1]), r"RandomEpsilon was given choices"),
        (lambda: attacks.RandomEpsilon(seed="a"), r"RandomEpsilon was given seed = 'a'"),
        (lambda: attacks.PoolAttack([]), r"PoolAttack was given pool = \[\]; give one rule"),
        (lambda: attacks.PoolAttack("krum"), r"PoolAttack was given pool = 'krum'"),
        (lambda: attacks.PoolAttack(factors=[]), r"PoolAttack was given factors = \[\]"),
        (lambda: attacks.PoolAttack()(draw(3, 2), 1), r"neither a pool nor the server's rule"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_knowledge():
    assert attacks.PoolAttack().knows == "rule"
    assert attacks.PoolAttack([rules.Median()]).knows == "honest"
    assert attacks.Tailored().knows == attacks.RandomEpsilon().knows == "honest"
