"""ByzMean: the mean of all updates is the base attack's."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from flwr_robust import rules
from tests.clients.attacks.data import DTYPES, draw


@pytest.mark.parametrize("base", [None, attacks.Lie(1.5), attacks.SignFlip(), attacks.Random(seed=2), attacks.MinMax()])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", [1, 2, 3, 6])
def test_byz_mean_makes_the_mean_of_all_the_base_attacks(base, dtype, f):
    honest = draw(9, 80, dtype)
    attack = attacks.ByzMean() if base is None else attacks.ByzMean(base)
    attack.reset()
    made = attack(honest, f)
    assert made.shape == (f, 80)
    first = f // 2
    attack.reset()
    wanted = attack.base(honest, max(first, 1)).astype(np.float64)
    np.testing.assert_allclose(made[:first], wanted[:first], atol=1e-6)
    everybody = np.vstack([honest, made]).astype(np.float64)
    np.testing.assert_allclose(everybody.mean(axis=0), wanted.mean(axis=0), atol=1e-5)
    assert (made[first:] == made[first]).all()


def test_byz_mean_by_the_papers_formula():
    honest, f = draw(8, 5), 4
    made = attacks.ByzMean(attacks.Lie(0.5))(honest, f)
    beta = honest.mean(axis=0) - 0.5 * honest.std(axis=0)
    n, m1 = 12, 2
    np.testing.assert_allclose(made[:m1], [beta, beta])
    np.testing.assert_allclose(made[m1], ((n - m1) * beta - honest.sum(axis=0)) / (f - m1))


def test_byz_mean_knows_what_its_base_knows():
    assert attacks.ByzMean().knows == "honest"
    assert attacks.ByzMean(attacks.Random()).knows == "honest"
    optimal = attacks.ByzMean(attacks.ALittleIsEnough("optimal"))
    assert optimal.knows == "rule"
    honest, rule = draw(9, 6), rules.Krum(f=2)
    wanted = attacks.ALittleIsEnough("optimal")(honest, 1, rule=rules.Krum(f=2))
    made = optimal(honest, 2, rule=rule)
    np.testing.assert_allclose(made[0], wanted[0])
    assert attacks.ByzMean()(honest, 0).shape == (0, 6)


def test_byz_mean_counts_the_unseen():
    honest, own = draw(5, 6), draw(2, 6, seed=1)
    made = attacks.ByzMean(attacks.Lie(0.5))(honest, 2, own=own, unseen=3)
    mean = np.vstack([honest, own]).mean(axis=0)
    everybody = np.vstack([honest, np.tile(mean, (3, 1)), made])
    np.testing.assert_allclose(everybody.mean(axis=0), made[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.ByzMean(attacks.LabelFlip(10)), r"ByzMean was given base = LabelFlip"),
        (lambda: attacks.ByzMean(attacks.Silent()), r"ByzMean was given base = Silent"),
        (lambda: attacks.ByzMean("lie"), r"ByzMean was given base = 'lie'"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
