"""`RobustFedAvg` in Flower's own loops, from ServerApp to ClientApp and back, with clients that lie."""

from __future__ import annotations

import logging
from threading import Lock

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerApp, ServerAppComponents, ServerConfig
from flwr.server.workflow import DefaultWorkflow

from flwr_robust import rules
from flwr_robust.legacy import RobustFedAvg
from tests.flower_messages import RunGrid
from tests.legacy import lies

HONEST, ROUNDS = 5, 3
START = [np.zeros((2, 2), np.float32), np.zeros(3, np.float32)]
OPTIONS = {"min_fit_clients": HONEST, "min_evaluate_clients": HONEST, "min_available_clients": HONEST}
DEFENCE = rules.chain(rules.ARC(f=1), rules.NNM(f=1), rules.TrimmedMean(f=1))


class Walker(NumPyClient):
    """Walks half of the way to the point of ones, with an error of its own; clients below 0 walk away from it."""

    def __init__(self, number):
        self.number = number

    def get_parameters(self, config):
        return START

    def fit(self, parameters, config):
        step = 0.5 if self.number >= 0 else -10.0
        return [(a + step * (1 - a) + 0.01 * self.number).astype(a.dtype) for a in parameters], 10, {"step": step}

    def evaluate(self, parameters, config):
        return float(max(np.abs(a - 1).max() for a in parameters)), 10, {}


CLIENTS = ClientApp(client_fn=lambda context: Walker(context.node_config["number"]).to_client())


def make_grid(*told):
    """Nodes 1 to 5 are honest, 6 walks away, and each of the others tells another lie."""
    numbers = dict(enumerate([*range(HONEST), -1, *[0] * len(told)], start=1))
    liars = dict(enumerate(told, start=HONEST + 2))
    one_at_a_time = Lock()

    def answer(node, message):
        context = Context(1, node, {"number": numbers[node]}, RecordDict(), {})
        # Real clients are processes of their own. As threads of one, two that read arrays may meet in CPython's
        # parser, which numpy.load uses, and fail there ("AST constructor recursion depth mismatch").
        with one_at_a_time:
            reply = CLIENTS(message, context)
        if node in liars and message.metadata.message_type in ("train", "evaluate"):
            return liars[node](reply)
        return reply

    return RunGrid(list(numbers), answer)


def run_server_app(grid, strategy):
    """Run ServerApp(server_fn=...), which asks each client from a thread of its own."""
    components = ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=ROUNDS))
    ServerApp(server_fn=lambda context: components)(grid, Context(1, 1, {}, RecordDict(), {}))


def run_workflow(grid, strategy):
    """Run the workflow for apps with a main function, which asks all clients at once."""
    context = Context(1, 1, {}, RecordDict(), {})
    config = ServerConfig(num_rounds=ROUNDS)
    DefaultWorkflow()(grid, LegacyContext(context=context, config=config, strategy=strategy))


class Seen(list):
    """An `evaluate_fn` that keeps the models."""

    def __call__(self, server_round, arrays, config):
        self.append(arrays)
        return float(server_round), {}


@pytest.mark.parametrize(
    ("run", "told"), [(run_server_app, lies.FITS | lies.MESSAGES), (run_workflow, lies.FITS)], ids=["app", "workflow"]
)
def test_lies_of_every_kind_do_not_stop_it_and_it_learns(run, told):
    seen = Seen()
    strategy = RobustFedAvg(DEFENCE, initial_parameters=ndarrays_to_parameters(START), evaluate_fn=seen, **OPTIONS)
    run(make_grid(*told.values()), strategy)
    assert len(seen) == 1 + ROUNDS
    assert max(float(np.abs(a - 1).max()) for a in seen[-1]) < 0.25
    for report in strategy.reports:
        usable = {node for node, fate in report.nodes.items() if fate.accepted}
        assert usable == set(range(1, HONEST + 2))
        left_out = dict(zip(told, range(HONEST + 2, HONEST + 2 + len(told)), strict=True))
        unexplained = {name for name, node in left_out.items() if node not in report.nodes}
        assert unexplained <= {"broken", "silent"} if run is run_workflow else unexplained == set()
        assert all(report.nodes[node].reason for name, node in left_out.items() if name not in unexplained)


@pytest.mark.parametrize("run", [run_server_app, run_workflow])
def test_the_first_model_comes_from_a_client(run, caplog):
    seen = Seen()
    strategy = RobustFedAvg(DEFENCE, evaluate_fn=seen, **OPTIONS)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        run(make_grid(), strategy)
    assert all(np.array_equal(a, b) for a, b in zip(seen[0], START, strict=True))
    assert max(float(np.abs(a - 1).max()) for a in seen[-1]) < 0.25
    assert "one node, which may be malicious, chooses the initial model" in caplog.text
    assert strategy.reports[0].nodes[1].norm == pytest.approx(0.5 * np.sqrt(7), rel=1e-5)
