"""The optimiser of an attack's one factor, against any rule."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from clients import attacks
from clients.attacks.search import SearchError
from flwr_robust import rules
from tests.clients.attacks.data import draw

F = 3
HONEST, OWN = draw(9, 40), draw(F, 40, seed=1)
TUNABLE = sorted(name for name, kind in attacks.REGISTRY.items() if issubclass(kind, attacks.Tunable))
CHAINS = [
    rules.chain(rules.NNM(F), rules.Krum(F)),
    rules.Median(),
    rules.chain(rules.StaticClipping(4.0), rules.Mean()),
]


def optimal(name, **more):
    kind = attacks.REGISTRY[name]
    seed = {"seed": 1} if "seed" in inspect.signature(kind).parameters else {}
    return kind(**{kind.tuned: "optimal"}, **seed, **more)


def by_hand(attack, rule):
    """Try each candidate anew: the largest gain, and the attack of the least candidate that has it."""
    sight = attacks.Sight(HONEST, F, rule, trained=OWN)
    goal, gains = attack.goal(sight), {}
    for value in attack.candidates(sight):
        fixed = type(attack)(**{attack.tuned: value}, **({"seed": 1} if hasattr(attack, "seed") else {}))
        rows = fixed(HONEST, F, own=OWN)
        output = rule(np.concatenate([HONEST, rows]))
        damage = np.linalg.norm(output - HONEST.mean(axis=0))
        gains[value] = (damage if goal is None else -np.linalg.norm(output - goal)), rows
    return gains


def test_every_attack_with_a_factor_is_here():
    assert sorted(
        ["alie", "fang-trimmed-mean", "foe", "gaussian", "lie", "model-replacement", "neurotoxin", "noise", "pgd",
         "random", "scaled", "tailored"]
    ) == TUNABLE  # fmt: skip


@pytest.mark.parametrize("rule", CHAINS, ids=repr)
@pytest.mark.parametrize("name", TUNABLE)
def test_the_best_of_all_candidates_is_sent(name, rule):
    attack = optimal(name)
    assert attack.knows == "rule"
    sent = attack(HONEST, F, rule=rule, own=OWN)
    gains = by_hand(attack, rule)
    largest = max(gain for gain, _ in gains.values())
    reached = [gain for gain, rows in gains.values() if np.allclose(rows, sent, rtol=1e-9)]
    assert reached
    assert max(reached) >= largest - 1e-7 * abs(largest)


@pytest.mark.parametrize("name", TUNABLE)
def test_it_needs_the_rule_and_somebody_who_attacks(name):
    with pytest.raises(ValueError, match='"optimal"\\) needs the server\'s rule'):
        optimal(name)(HONEST, F)
    assert optimal(name)(HONEST, 0).shape == (0, 40)


def test_a_rule_that_refuses_all():
    with pytest.raises(SearchError, match="none of 20 candidates could be tried"):
        optimal("neurotoxin")(HONEST[:3], F, rule=rules.Bulyan(F))


def test_nothing_to_try():
    with pytest.raises(SearchError, match="finds no radius to try"):
        optimal("pgd")(np.zeros((3, 4)), 1, rule=rules.Mean())


def test_searching_leaves_draws_and_state_where_they_are():
    attack, rule = optimal("noise"), rules.CenteredClipping()
    rule(HONEST)
    before = rule(HONEST)
    first, second = attack(HONEST, F, rule=rule, own=OWN), attack(HONEST, F, rule=rule, own=OWN)
    assert (first != second).any()  # a draw a call, as without the search
    attack.reset()
    np.testing.assert_array_equal(attack(HONEST, F, rule=rule, own=OWN), first)
    assert (rule(HONEST) == before).sum() < 40  # its own calls go on, no other


def test_any_attack_with_candidates_of_ones_own():
    attack = attacks.Optimal(attacks.Lie(), candidates=[0.0, 3.0])
    assert attack.knows == "rule"
    np.testing.assert_allclose(attack(HONEST, F, rule=rules.Mean()), attacks.Lie(3.0)(HONEST, F))
    assert attacks.from_spec("optimal", {"base": "tailored"}) == attacks.Optimal(attacks.Tailored())
    given = attacks.from_spec("optimal", {"base": "foe", "base.tau": 1.0})
    np.testing.assert_allclose(
        given(HONEST, F, rule=rules.Median()), attacks.FallOfEmpires("optimal")(HONEST, F, rule=rules.Median())
    )


def test_wrong_bases_and_candidates():
    with pytest.raises(ValueError, match="Optimal was given base = SignFlip"):
        attacks.Optimal(attacks.SignFlip())
    with pytest.raises(ValueError, match="Lie was given z = -1"):
        attacks.Optimal(attacks.Lie(), candidates=[-1.0])
