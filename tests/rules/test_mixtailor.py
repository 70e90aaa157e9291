from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.run import run
from tests.rules.data import matrix


def draws(rule, X, count):
    return [(rule(X), rule.last_drawn)[1] for _ in range(count)]


def test_each_rule_is_drawn_about_equally_often():
    pool = [rules.Median(), rules.Krum(1), rules.TrimmedMean(1), rules.chain(rules.NNM(1), rules.Krum(1))]
    by_name = {repr(member): member for member in pool}
    rule, X = rules.MixTailor(pool, seed=5), matrix("normal", 5, 3, seed=6)
    drawn = []
    for _ in range(400):
        result = rule(X)
        drawn.append(rule.last_drawn)
        assert np.array_equal(result, by_name[rule.last_drawn](X))
    # 100 expected, standard deviation 8.7.
    assert all(60 <= drawn.count(name) <= 140 for name in by_name)
    assert draws(rules.MixTailor(pool, seed=5), X, 20) == drawn[:20]


def test_the_default_pool_is_the_papers():
    rule = rules.MixTailor(f=2, seed=1)
    kinds = [type(member).__name__ for member in rule.pool]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        ("Median", "Krum", "GeometricMedian", "Bulyan"), 16
    )
    for kind in (rules.Krum, rules.GeometricMedian, rules.Bulyan):
        assert [member.p for member in rule.pool if isinstance(member, kind)] == list(range(1, 17))
    assert rule.min_rows == 5
    X = matrix("normal", 11, 6, seed=7)
    families = {name.partition("(")[0] for name in draws(rule, X, 80)}
    assert families == {"Median", "Krum", "GeometricMedian", "Bulyan"}
    assert not any(name.startswith("Bulyan") for name in draws(rule, X[:10], 40))
    assert len(rule.candidates(11)) == 64
    assert len(rule.candidates(10)) == len(rule.candidates(20, rows=10)) == 48


def test_it_counts_the_rows_behind_bucketing():
    rule = rules.chain(rules.Bucketing(s=2, seed=1), rules.MixTailor(f=2, seed=1))
    for _ in range(40):
        # 7 rows reach the rule: too few for Bulyan.
        assert np.isfinite(rule(matrix("normal", 14, 6, seed=7))).all()
        assert not rule.last.last_drawn.startswith("Bulyan")
    # A fraction is taken of the 20 rows that come in, of which 10 reach the rule.
    pool = rules.MixTailor([rules.Median(), rules.Krum(0.25)])
    with pytest.raises(ValueError, match="n = 10 rows with f = 5"):
        rules.chain(rules.Bucketing(s=2), pool).require_rows(20)


def test_without_a_seed_runs_differ():
    X = matrix("normal", 5, 3, seed=8)
    assert draws(rules.MixTailor(f=1), X, 12) != draws(rules.MixTailor(f=1), X, 12)


def test_a_chain_in_the_pool_runs_behind_the_chain_before_it():
    X = matrix("normal", 5, 8, seed=9)
    pool = [rules.chain(rules.NNM(1), rules.Median())]
    outcome = run(rules.chain(rules.ARC(1), rules.MixTailor(pool)), updates_for(X))
    assert outcome.trace.drawn == ["MixTailor: chain(NNM(f=1), Median())"]
    assert outcome.trace.rule_drawn == 0
    assert np.array_equal(outcome.vector, rules.chain(rules.ARC(1), rules.NNM(1), rules.Median())(X))


def test_it_asks_for_the_layers_that_its_pool_needs():
    rule = rules.chain(rules.NNM(1), rules.MixTailor([rules.Median(), rules.LFighter()]))
    with pytest.raises(ValueError, match="LFighter found no 2-D layer"):
        rule.require_layers([])


@pytest.mark.parametrize("pool", [[], [rules.NNM(1)], rules.Krum(1), ["krum"]])
def test_a_pool_is_of_rules(pool):
    with pytest.raises(ValueError, match="give one rule or chain or more, or None"):
        rules.MixTailor(pool=pool)


def test_a_rule_that_needs_more_rows_is_named():
    with pytest.raises(ValueError, match=r"Krum\(f=3\) was given n = 6"):
        rules.MixTailor(pool=[rules.Krum(3)])(np.ones((6, 2)))
