"""Outcomes of a chain for many mixes of the same points, against running the chain on each."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules import mda
from flwr_robust.rules.whatif import can_plan, outcomes

F = 3
CHAINS = [
    rules.Mean(),
    rules.Median(),
    rules.TrimmedMean(F),
    rules.Krum(F),
    rules.Krum(F, p=3),
    rules.GeometricMedian(),
    rules.chain(rules.ARC(F), rules.NNM(F), rules.TrimmedMean(F)),
    rules.chain(rules.ARC(F), rules.NNM(F), rules.GeometricMedian()),
    rules.chain(rules.NNM(F), rules.MultiKrum(F)),
    rules.chain(rules.Bucketing(s=1, seed=1), rules.Krum(F)),
]


@pytest.mark.parametrize("rule", CHAINS, ids=repr)
def test_outcomes_equal_those_of_the_rows_themselves(rule):
    rng = np.random.default_rng(0)
    honest, direction = rng.standard_normal((8, 70)) + 1.0, rng.standard_normal(70)
    mean = np.append(np.full(8, 1 / 8), 0.0)
    shifts = np.eye(9)[8]
    mixes = [np.vstack([np.eye(8, 9), np.tile(mean + t * shifts, (F, 1))]) for t in (0.0, 0.5, 2.0, 1e6)]
    points = np.vstack([honest, direction])
    target, errors, products = mean @ points, [], []
    for mix in mixes:
        rule.reset()
        output = rule(mix @ points)
        errors.append(np.linalg.norm(output - target))
        products.append(output @ target)
    rule.reset()
    found = outcomes(rule, updates_for(points), mixes, mean)
    assert np.allclose(found.errors, errors, rtol=1e-6, atol=1e-9)
    assert np.allclose(found.inner_products, products, rtol=1e-6, atol=1e-8)


def test_what_takes_steps_over_the_data_cannot_be_planned():
    assert can_plan(rules.chain(rules.NNM(1), rules.GeometricMedian()))
    assert can_plan(rules.MeaMed(1))
    for rule in (rules.GeometricMedian(p=3), rules.GeometricMedian(p=1), rules.LASA(), rules.MixTailor(f=1)):
        assert not can_plan(rules.chain(rules.ARC(1), rule))


def test_what_a_rule_remembers_and_draws_stays_as_it_is():
    rule = rules.chain(rules.Bucketing(s=2, seed=1), rules.MixTailor([rules.Krum(1), rules.Median()], seed=1))
    state, points = rule.state(), np.random.default_rng(0).standard_normal((9, 6))
    # Each mix has draws of its own, which are not a call's.
    outcomes(rule, updates_for(points), [np.eye(9)] * 4, np.eye(9)[0])
    assert all(np.array_equal(rule.state()[name], value) for name, value in state.items())
    assert rule.last.last_drawn is None


def test_where_a_rule_gives_up_nothing_is_known(monkeypatch):
    monkeypatch.setattr(mda, "LIMIT", 3)
    points = np.random.default_rng(5).standard_normal((30, 4))
    found = outcomes(rules.MDA(6), updates_for(points), [np.eye(30)], np.eye(30)[0])
    assert np.isnan([*found.errors, *found.inner_products]).all()


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(TypeError, match=r"LASA\(\) cannot be planned; ask `can_plan` first"):
        outcomes(rules.LASA(), updates_for(np.ones((4, 3))), [np.eye(4)], np.eye(4)[0])


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="n = 3 rows with f = 3"):
        outcomes(rules.Krum(3), updates_for(np.ones((2, 4))), [np.ones((3, 2)) / 2], np.ones(2) / 2)
