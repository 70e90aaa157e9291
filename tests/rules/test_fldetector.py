from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules.gap_statistic import inertias, upper_cluster
from tests.rules import references
from tests.rules.data import assert_close
from tests.rules.rounds import outputs_of, rounds_of


def drifting(count, window):
    """Rounds in which nodes go on with what they did, but for two that jump about from some round on."""
    rng, made = np.random.default_rng(1), []
    direction, own = rng.standard_normal(20), 0.1 * rng.standard_normal((9, 20))
    for number in range(count):
        there = rng.permutation(9)[: 8 + number % 2]
        X = direction * 0.9**number + own[there] + 0.01 * rng.standard_normal((len(there), 20))
        X[there < 2] += rng.standard_normal(20) * (number > window)
        made.append((there.tolist(), X, np.zeros(20)))
    return made


@pytest.mark.parametrize("window", [2, 3])
def test_rounds_with_nodes_that_come_and_go(window):
    for rounds in (drifting(12, window), rounds_of(9, d=20)):
        expected = references.fldetector([(ids, X) for ids, X, _ in rounds], window, 20, seed=3)
        rule = rules.FLDetector(window=window, seed=3)
        for found, wanted, (_, X, _) in zip(outputs_of(rule, rounds), expected, rounds, strict=True):
            assert_close(found, wanted, X, 1e-7)


def test_it_finds_those_who_jump_about():
    rounds = drifting(14, 2)
    found = outputs_of(rules.FLDetector(window=2, seed=1), rounds)
    ids, X, _ = rounds[-1]
    assert np.allclose(found[-1], X[np.array(ids) >= 2].mean(axis=0))
    assert np.allclose(found[3], rounds[3][1].mean(axis=0))


def test_exact_two_means():
    for seed in range(50):
        values = np.sort(np.random.default_rng(seed).integers(0, 9, 8) / 8.0)
        one, two, cut = (found[0] for found in inertias(values[None]))
        assert one == pytest.approx(references.inertia(values, 1))
        if len(np.unique(values)) > 1:
            assert two == pytest.approx(references.inertia(values, 2), abs=1e-12)
            assert (values < values[cut]).tolist() == references.two_means(values)[0].tolist()


def test_clusters():
    rng = np.random.default_rng(1)
    assert not upper_cluster(np.full(5, 0.3), 20, rng).any()
    assert upper_cluster(np.array([0.1, 0.9, 0.1]), 20, rng).tolist() == [False, True, False]
    values = np.array([0.1, 0.11, 0.12, 0.13, 0.5, 0.51])
    assert upper_cluster(values, 20, rng).tolist() == [False] * 4 + [True] * 2
    assert not upper_cluster(np.linspace(0, 1, 9), 20, rng).any()


@pytest.mark.parametrize(("name", "value"), [("window", 1), ("references", 1), ("seed", -1)])
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"FLDetector was given {name} = {value}"):
        rules.FLDetector(**{name: value})
