"""Momentum at the server: the formula, Flower's FedAvgM, saved states."""

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvgM

from flwr_robust import Mean, RobustStrategy, rules
from tests.flower_messages import FakeGrid, record, trainer, values

START = {"w": np.linspace(-1, 1, 6, dtype=np.float32), "count": np.array([3])}
NODES = [1, 2, 3]


def train(strategy, rounds, start=START):
    grid = FakeGrid(NODES, trainer(lambda node: np.float32(node)))
    return values(strategy.start(grid=grid, initial_arrays=record(start), num_rounds=rounds).arrays)


def test_each_round_adds_the_rate_times_the_momentum():
    # The aggregate is 2 each round, so with beta = 1/2 the momenta are 2, 3 and 3.5.
    model = train(RobustStrategy(rules.Mean(), server_momentum=0.5, server_learning_rate=0.1), 3)
    np.testing.assert_allclose(model["w"], START["w"] + 0.1 * (2 + 3 + 3.5), rtol=1e-5)


def test_integer_arrays_have_no_momentum():
    one, two = (train(Mean(server_momentum=beta), 3)["count"] for beta in (0.0, 0.9))
    np.testing.assert_array_equal(one, two)


def test_the_mean_with_momentum_is_flowers_fedavgm():
    floats = {"w": START["w"]}
    options = {"server_momentum": 0.9, "server_learning_rate": 0.3, "fraction_evaluate": 0.0}
    ours, flowers = (train(strategy(**options), 4, floats)["w"] for strategy in (Mean, FedAvgM))
    np.testing.assert_allclose(ours, flowers, rtol=1e-5)


def test_a_saved_momentum_goes_on_as_an_unbroken_one():
    whole = train(Mean(server_momentum=0.9), 5)["w"]
    first, second = Mean(server_momentum=0.9), Mean(server_momentum=0.9)
    half = train(first, 2)
    saved = first.state()
    train(first, 1)  # what was saved stays as it was
    second.load_state(saved)
    np.testing.assert_allclose(train(second, 3, half)["w"], whole, rtol=1e-6)


def test_reset_starts_without_momentum():
    strategy = Mean(server_momentum=0.9)
    fresh = train(strategy, 1)["w"]
    strategy.reset()
    assert list(strategy.state()) == []
    np.testing.assert_array_equal(train(strategy, 1)["w"], fresh)


@pytest.mark.parametrize("size", [4, 9])
def test_a_model_of_another_size_starts_without_momentum(size):
    strategy, other = Mean(server_momentum=0.9), {"w": np.zeros(size, np.float32)}
    train(strategy, 2)
    np.testing.assert_array_equal(train(strategy, 2, other)["w"], train(Mean(server_momentum=0.9), 2, other)["w"])


def test_a_momentum_that_is_not_kept_is_not_loaded():
    strategy = Mean(server_momentum=0.9)
    train(strategy, 1)
    with pytest.raises(ValueError, match="holds a server's momentum, but this strategy keeps none: give server_mom"):
        Mean().load_state(strategy.state())


@pytest.mark.parametrize("beta", [1, -0.1, True, "0.9", float("nan")])
def test_wrong_momenta_are_told(beta):
    with pytest.raises(ValueError, match=r"Mean was given server_momentum = .*; give a number in \[0, 1\)"):
        Mean(server_momentum=beta)
