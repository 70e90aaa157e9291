from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close
from tests.rules.rounds import outputs_of, rounds_of


@pytest.mark.parametrize("options", [{}, {"confidence": 0.3}, {"normalise": False}, {"confidence": 2.0}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounds_with_nodes_that_come_and_go(options, dtype):
    rounds = rounds_of(6, d=9, dtype=dtype)
    expected = references.foolsgold([(ids, X) for ids, X, _ in rounds], **options)
    for found, wanted, (_, X, _) in zip(outputs_of(rules.FoolsGold(**options), rounds), expected, rounds, strict=True):
        assert_close(found, wanted, X, 1e-4 if dtype == np.float32 else 1e-9)


def test_one_layer_is_compared_and_remembered():
    rounds, rule = rounds_of(4, d=20), rules.FoolsGold(layer="b")
    layers = [("a", 6), ("b", (3, 3)), ("c", 5)]
    sums = {}
    for ids, X, _ in rounds:
        for who, row in zip(ids, X[:, 6:15], strict=True):
            sums[who] = sums.get(who, 0.0) + row
        weights = references.foolsgold_weights([sums[who] for who in ids])
        assert_close(rule(X, layers, ids=ids), weights @ X / weights.sum(), X, 1e-9)
    assert rule.state()["sums"].shape[1] == 9
    with pytest.raises(ValueError, match="FoolsGold was given layer = 'b', but the layers are all: name one"):
        rule(rounds[0][1])


def test_where_all_are_twins_nobody_counts():
    X = np.random.default_rng(1).standard_normal((3, 40))
    twins = np.vstack([X, 5 * X])
    for rows in (twins, twins.astype(np.float32)):
        assert not rules.FoolsGold()(rows).any()
    alone = np.vstack([twins, [np.ones(40)]])
    assert_close(rules.FoolsGold()(alone), np.ones(40), alone)


def test_any_number_of_sybils_counts_as_nothing():
    rng = np.random.default_rng(2)
    honest, sybil = rng.standard_normal((6, 300)), rng.standard_normal(300)
    rule = rules.FoolsGold()
    for _ in range(3):
        rows = np.vstack([honest + 0.1 * rng.standard_normal((6, 300)), np.tile(sybil, (14, 1)) * 9])
        found = rule(rows)
    assert abs(found @ sybil) < 0.1 * (sybil @ sybil)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 0}, "confidence = 0; give a finite number above 0"),
        ({"layer": 3}, "layer = 3; give the name of a layer, or None"),
        ({"normalise": 1}, "normalise = 1; give True or False"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        rules.FoolsGold(**options)
