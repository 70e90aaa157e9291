"""Each strategy in the place of Flower's FedAvg, in the three ways in which Flower's quickstart apps use it."""

from __future__ import annotations

import inspect
from functools import cache

import flwr.serverapp.strategy as flower
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord

import flwr_robust
from flwr_robust import RobustStrategy
from tests.flower_messages import FakeGrid, trainer

STRATEGIES = [
    strategy
    for name in flwr_robust.__all__
    if inspect.isclass(strategy := getattr(flwr_robust, name))
    and issubclass(strategy, RobustStrategy)
    and strategy is not RobustStrategy
]
NODES = [1, 2, 3, 4]
GRID = FakeGrid(NODES, trainer(lambda node: np.float32(1 + 0.01 * node)))
START = [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)]


def numpy_app(strategy):
    """No argument at all, and arrays without names."""
    result = made(strategy).start(grid=GRID, initial_arrays=ArrayRecord(START), num_rounds=2)
    return result.arrays.to_numpy_ndarrays(), result


def pytorch_app(strategy):
    """A state_dict, a configuration of the training, and an evaluation at the server."""
    torch = pytest.importorskip("torch")
    names = ("fc.weight", "fc.bias")

    def evaluate(server_round, arrays):
        assert list(arrays.to_torch_state_dict()) == list(names)
        return MetricRecord({"round": server_round})

    result = made(strategy, fraction_evaluate=0.5).start(
        grid=GRID,
        initial_arrays=ArrayRecord({name: torch.from_numpy(a) for name, a in zip(names, START, strict=True)}),
        train_config=ConfigRecord({"lr": 0.1}),
        num_rounds=2,
        evaluate_fn=evaluate,
    )
    assert [metrics["round"] for metrics in result.evaluate_metrics_serverapp.values()] == [0, 1, 2]
    return [tensor.numpy() for tensor in result.arrays.to_torch_state_dict().values()], result


def sklearn_app(strategy):
    """Fractions of both kinds, and the key by which Flower weighs."""
    options = {"fraction_train": 1.0, "fraction_evaluate": 1.0, "min_available_nodes": 4}
    result = made(strategy, **options, weighted_by_key="num-examples").start(GRID, ArrayRecord(START), 2)
    return result.arrays.to_numpy_ndarrays(), result


# Two steps of 1.01 to 1.04 each, unless a strategy means something else.
REACH = {
    flwr_robust.LASA: (1, 3),  # drops small coordinates
    flwr_robust.SparseFed: (1, 3),  # and has momentum
    flwr_robust.SLSGD: (1.6, 1.7),  # goes a share of the way
    flwr_robust.CRFL: (0.6, 0.9),  # clips the model
    flwr_robust.FoolsGold: (0, 0),  # trusts nobody where all agree
    flwr_robust.MoNNA: (0, 0),  # its trusted node is not there
}


def made(strategy, **options):
    """Make it as an app does: strategies that compare nodes with the server need its own training."""
    if "root" in getattr(strategy, "rule_class", flwr_robust.rules.Mean).requires:
        options["root_fn"] = lambda arrays, server_round: [a + 1 for a in arrays.to_numpy_ndarrays()]
    return strategy(**options)


@cache
def of_fedavg(app):
    return app(flower.FedAvg)


@pytest.mark.parametrize("app", [numpy_app, pytorch_app, sklearn_app])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_takes_the_place_of_fedavg(strategy, app):
    arrays, result = app(strategy)
    expected, flowers = of_fedavg(app)
    assert [(a.shape, a.dtype) for a in arrays] == [(a.shape, a.dtype) for a in expected]
    assert result.train_metrics_clientapp.keys() == flowers.train_metrics_clientapp.keys()
    assert result.train_metrics_clientapp[2]["loss"] == flowers.train_metrics_clientapp[2]["loss"]
    assert result.evaluate_metrics_clientapp[2]["accuracy"] == 0.5
    assert all(np.isfinite(values).all() for values in arrays)
    low, high = REACH.get(strategy, (1.95, 2.15))
    assert low <= max(values.max() for values in arrays) <= high
