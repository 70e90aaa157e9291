"""`RobustFedAvg` in Flower's older loop, and call by call."""

from __future__ import annotations

import inspect
import logging
import random

import numpy as np
import pytest
from flwr.common import Code, EvaluateRes, FitIns, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import Server
from flwr.server.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

import flwr_robust
from flwr_robust import rules
from flwr_robust.legacy import RobustFedAvg
from flwr_robust.legacy.messages import node_number
from flwr_robust.legacy.strategy import LegacyFedAvgOptions
from tests.legacy.fakes import OK, FakeClient, fit_res, manager

START = [np.zeros((2, 2), np.float32), np.zeros(3, np.float32)]
DEFAULT = rules.chain(rules.ARC(f=1), rules.NNM(f=1), rules.TrimmedMean(f=1))


def walk(number, arrays):
    """A step towards the point of ones, with an error of the node's own."""
    return [a + 0.5 * (1 - a) + np.float32(0.01 * number) for a in arrays]


def flip(number, arrays):
    return [a - 10 * (1 - a) for a in arrays]


def nothing_usable(number, arrays):
    return [np.full_like(a, np.nan) for a in arrays]


def fail(number, arrays):
    raise RuntimeError(f"out of memory on {number}")


def federation(*trains, start=None):
    clients = [FakeClient(number, train, start) for number, train in enumerate(trains, start=1)]
    return clients, manager(clients)


def train(strategy, clients, rounds=3):
    server = Server(client_manager=clients, strategy=strategy)
    history, _ = server.fit(num_rounds=rounds, timeout=None)
    return parameters_to_ndarrays(server.parameters), history


def waiting(count, **options):
    return {"min_fit_clients": count, "min_evaluate_clients": count, "min_available_clients": count} | options


def start_round(strategy, count, arrays=START):
    """Configure a round of so many clients, and return them."""
    clients, pool = federation(*[walk] * count)
    strategy.configure_fit(1, ndarrays_to_parameters(arrays), pool)
    return clients


# ---------------------------------------------------------------- Flower's loop


def test_the_mean_is_driven_off_and_the_defence_stands():
    found = {}
    for name, rule in {"mean": rules.Mean(), "defended": DEFAULT}.items():
        strategy = RobustFedAvg(rule, initial_parameters=ndarrays_to_parameters(START), **waiting(5))
        arrays, history = train(strategy, federation(*[walk] * 4, flip)[1])
        found[name] = max(float(np.abs(a - 1).max()) for a in arrays)
        assert [report.n for report in strategy.reports] == [5, 5, 5]
        assert [value for _, value in history.metrics_distributed_fit["loss"]] == [4.0, 4.0, 4.0]
        # The median of the nodes' losses, which are their numbers.
        assert history.losses_distributed == [(1, 3.0), (2, 3.0), (3, 3.0)]
    assert found["mean"] > 1.5
    assert found["defended"] < 0.3


def test_the_first_model_may_come_from_a_client(caplog):
    start = ndarrays_to_parameters([np.full(3, 0.5, np.float32)])
    strategy = RobustFedAvg(rules.Median(), **waiting(3))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, _ = train(strategy, federation(walk, walk, walk, start=start)[1], rounds=1)
    assert np.allclose(arrays[0], 0.77)
    assert "one node, which may be malicious, chooses the initial model" in caplog.text
    # Norms are those of steps from 0.5 by 0.26, 0.27, 0.28, so the model was subtracted.
    assert strategy.reports[0].nodes[2].norm == pytest.approx(0.27 * np.sqrt(3), rel=1e-5)


@pytest.mark.parametrize("start", [Parameters([], ""), Parameters([b"\x93NUMPY garbage"], "numpy.ndarray")])
def test_a_client_that_chooses_no_model_or_garbage_does_not_end_the_run(start):
    strategy = RobustFedAvg(rules.Median(), **waiting(3))
    clients, pool = federation(*[None] * 3, start=start)
    model = strategy.initialize_parameters(pool) or clients[0].get_parameters(None, None, None).parameters
    pairs = strategy.configure_fit(1, model, pool)
    results = [(client, fit_res([np.full(2, node_number(client), np.float32)])) for client, _ in pairs]
    parameters, _ = strategy.aggregate_fit(1, results, [])
    assert np.array_equal(parameters_to_ndarrays(parameters)[0], [2.0, 2.0])


def test_evaluate_fn_may_fail_on_a_model_that_a_client_chose_and_on_no_other(caplog):
    def evaluate(server_round, arrays, config):
        return float(arrays[0].sum()), {}

    strategy = RobustFedAvg(rules.Median(), evaluate_fn=evaluate, **waiting(2))
    clients, pool = federation(walk, walk)
    assert strategy.initialize_parameters(pool) is None
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert strategy.evaluate(0, Parameters([b"garbage\n"], "numpy.ndarray")) is None
    assert "evaluate_fn failed on the initial model, which a node chose: ValueError(" in caplog.text
    strategy.configure_fit(1, Parameters([b"garbage\n"], "numpy.ndarray"), pool)
    parameters, _ = strategy.aggregate_fit(1, [(client, fit_res(START)) for client in clients], [])
    assert strategy.evaluate(1, parameters) == (0.0, {})
    with pytest.raises(IndexError):
        strategy.evaluate(1, ndarrays_to_parameters([]))


def test_a_model_of_the_project_that_cannot_be_aggregated_stops_at_once():
    strategy = RobustFedAvg(rules.Median(), initial_parameters=ndarrays_to_parameters([np.zeros(2, np.complex64)]))
    pool = federation(walk, walk)[1]
    model = strategy.initialize_parameters(pool)
    with pytest.raises(ValueError, match="'0' has the dtype 'complex64'"):
        strategy.configure_fit(1, model, pool)


def test_rounds_without_enough_usable_results_keep_the_model(caplog):
    strategy = RobustFedAvg(DEFAULT, initial_parameters=ndarrays_to_parameters(START), **waiting(4))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, history = train(strategy, federation(walk, walk, fail, fail)[1], rounds=2)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, START, strict=True))
    assert [value for _, value in history.metrics_distributed_fit["robust/skipped"]] == [1, 1]
    assert "n = 2 rows with f = 1, but it needs n > 2f, so at least 3 rows" in strategy.reports[0].skipped
    assert {node: fate.status for node, fate in strategy.reports[1].nodes.items()} == {
        1: "accepted",
        2: "accepted",
        3: "quarantined",
        4: "quarantined",
    }
    both = "error reply: RuntimeError: out of memory on 3; or RuntimeError: out of memory on 4"
    assert strategy.reports[1].nodes[4].reason == both
    assert "the global model stays" in caplog.text


def test_a_proved_liar_does_not_stop_training():
    strategy = RobustFedAvg(DEFAULT, initial_parameters=ndarrays_to_parameters(START), **waiting(4))
    arrays, _ = train(strategy, federation(walk, walk, nothing_usable, fail)[1], rounds=2)
    assert [report.skipped for report in strategy.reports] == [None, None]
    assert not any(np.array_equal(a, b) for a, b in zip(arrays, START, strict=True))


def test_what_a_subclass_sends_is_what_replies_are_compared_with():
    """It asks nodes to start from other models than the strategy has, without calling what it overrides."""

    class Own(RobustFedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            clients = client_manager.all().values()
            return [
                (client, FitIns(ndarrays_to_parameters([a + node_number(client) for a in START]), {}))
                for client in clients
            ]

    strategy = Own(rules.Median(), initial_parameters=ndarrays_to_parameters(START))
    _, pool = federation(walk, walk, walk)
    pairs = strategy.configure_fit(1, ndarrays_to_parameters(START), pool)
    moved = [[a + 0.5 for a in parameters_to_ndarrays(ins.parameters)] for _, ins in pairs]
    results = [(client, fit_res(arrays)) for (client, _), arrays in zip(pairs, moved, strict=True)]
    parameters, _ = strategy.aggregate_fit(1, results, [])
    for found, start in zip(parameters_to_ndarrays(parameters), START, strict=True):
        assert np.allclose(found, start + 0.5)


def test_excluded_clients_are_replaced_and_still_evaluate():
    random.seed(3)
    options = waiting(4, min_available_clients=6, fraction_fit=0.5, suspicion=0.1, exclude_after=0.5)
    strategy = RobustFedAvg(
        rules.TrimmedMean(f=1), initial_parameters=ndarrays_to_parameters(START), **options, fraction_evaluate=1.0
    )
    clients, pool = federation(*[walk] * 5, nothing_usable)
    train(strategy, pool, rounds=12)
    caught = next(r.round for r in strategy.reports if 6 in r.nodes)
    assert clients[5].asked == 1
    assert strategy.suspicions[6] > 0.5
    assert all(report.excluded == [6] and report.n == 4 for report in strategy.reports[caught:])


# ---------------------------------------------------------------- fates


def test_failures_are_fates():
    strategy = RobustFedAvg(rules.Median())
    one, two, *_ = start_round(strategy, 4)
    unable = fit_res(START, status=Status(Code.FIT_NOT_IMPLEMENTED, "no fit\nhere"))
    strategy.aggregate_fit(1, [(one, fit_res(START))], [(two, unable), ValueError("a"), KeyError("b")])
    nodes = strategy.reports[-1].nodes
    assert nodes[1].accepted
    assert nodes[2].reason == "error reply: FIT_NOT_IMPLEMENTED: no fit?here"
    assert nodes[3].reason == nodes[4].reason == "error reply: KeyError: 'b'; or ValueError: a"
    assert strategy.reports[-1].unanswered == []


def test_strangers_and_second_results_do_not_count():
    strategy = RobustFedAvg(rules.Mean())
    one, two = start_round(strategy, 2)
    ones, nines = [a + 1 for a in START], [a + 9 for a in START]
    results = [(one, fit_res(ones)), (two, fit_res(ones)), (two, fit_res(nines)), (FakeClient(66), fit_res(nines))]
    parameters, _ = strategy.aggregate_fit(1, results, [])
    assert np.array_equal(parameters_to_ndarrays(parameters)[1], [1, 1, 1])
    report = strategy.reports[-1]
    assert report.extra == [(2, "a second reply of the same node")]
    assert report.nodes[66].reason == "this node was not asked in this round"


def test_failures_that_are_not_accepted_skip_the_round():
    strategy = RobustFedAvg(rules.Median(), accept_failures=False)
    (one, two), pool = federation(walk, walk)
    start = ndarrays_to_parameters(START)
    strategy.configure_fit(1, start, pool)
    parameters, metrics = strategy.aggregate_fit(1, [(one, fit_res(START))], [ValueError("a")])
    assert parameters is start
    assert metrics["robust/skipped"] == 1
    assert strategy.reports[-1].skipped == "there were 1 failures, and accept_failures is False"
    strategy.configure_evaluate(1, ndarrays_to_parameters(START), manager([one, two]))
    assert strategy.aggregate_evaluate(1, [(one, EvaluateRes(OK, 1.0, 1, {}))], [ValueError("a")]) == (None, {})


# ---------------------------------------------------------------- metrics


def test_metrics_are_medians_and_num_examples_have_no_say():
    strategy = RobustFedAvg(rules.Mean())
    clients = start_round(strategy, 5)
    told = [
        (10, {"loss": 1.0, "steps": 3, "name": "a", "done": True}),
        (-5, {"loss": 2.0, "steps": 5, "name": "b", "done": True}),
        (10**18, {"loss": 3.0, "steps": 4, "backdoor": 1.0}),
        (float("nan"), {"loss": float("nan"), "steps": 4}),
        ([], {"loss": 1e308, "steps": "many", "blob": b"\x00"}),
    ]
    results = [
        (c, fit_res([a + i for a in START], metrics, examples))
        for i, (c, (examples, metrics)) in enumerate(zip(clients, told, strict=True))
    ]
    parameters, metrics = strategy.aggregate_fit(1, results, [])
    assert np.array_equal(parameters_to_ndarrays(parameters)[1], [2, 2, 2])
    assert {k: v for k, v in metrics.items() if not k.startswith("robust/")} == {"loss": 2.5, "steps": 4.0}
    assert metrics["robust/num-accepted"] == 5


def test_a_users_functions_get_what_usable_nodes_said():
    def weighted(told):
        total = sum(examples for examples, _ in told)
        return {"accuracy": sum(examples * metrics["accuracy"] for examples, metrics in told) / total}

    strategy = RobustFedAvg(rules.Mean(), fit_metrics_aggregation_fn=weighted, evaluate_metrics_aggregation_fn=weighted)
    clients = start_round(strategy, 3)
    results = [(c, fit_res(START, {"accuracy": 0.1 * k}, 10 * k)) for k, c in enumerate(clients, start=1)]
    results[2] = (clients[2], fit_res(nothing_usable(3, START), {"accuracy": 1e9}, 10))
    assert strategy.aggregate_fit(1, results, [])[1]["accuracy"] == pytest.approx((10 * 0.1 + 20 * 0.2) / 30)
    strategy.configure_evaluate(1, ndarrays_to_parameters(START), manager(clients))
    told = [(c, EvaluateRes(OK, k, 10 * k, {"accuracy": 0.5})) for k, c in enumerate(clients, start=1)]
    assert strategy.aggregate_evaluate(1, told, []) == (2.0, {"accuracy": pytest.approx(0.5)})


def test_a_users_function_that_fails_costs_the_metrics_only(caplog):
    strategy = RobustFedAvg(rules.Mean(), fit_metrics_aggregation_fn=lambda told: told[0][1]["accuracy"])
    clients = start_round(strategy, 2)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        parameters, metrics = strategy.aggregate_fit(1, [(c, fit_res(START)) for c in clients], [])
    assert parameters is not None
    assert set(metrics) >= {"robust/num-accepted"}
    assert "failed on the nodes' metrics" in caplog.text


def test_losses_that_are_no_numbers_do_not_count():
    strategy = RobustFedAvg(rules.Mean())
    clients, pool = federation(*[walk] * 5)
    strategy.configure_evaluate(1, ndarrays_to_parameters(START), pool)
    losses = [0.5, 0.7, float("nan"), [1e300], 0.6]
    told = [(c, EvaluateRes(OK, loss, 10, {})) for c, loss in zip(clients, losses, strict=True)]
    stranger = (FakeClient(66), EvaluateRes(OK, 1e9, 10, {}))
    assert strategy.aggregate_evaluate(1, [*told, stranger], [])[0] == pytest.approx(0.6)
    # No kind of loss comes from more than half of the nodes: there is none.
    assert strategy.aggregate_evaluate(1, told[2:], [])[0] is None
    assert strategy.aggregate_evaluate(1, [], []) == (None, {})


# ---------------------------------------------------------------- construction


def test_the_keywords_are_flowers():
    names = set(inspect.signature(FedAvg.__init__).parameters) - {"self"}
    assert set(LegacyFedAvgOptions.__annotations__) == names
    made = RobustFedAvg(DEFAULT, fraction_fit=0.25, on_fit_config_fn=lambda server_round: {"lr": 0.1 * server_round})
    assert made.fraction_fit == 0.25
    assert isinstance(made, FedAvg)
    (_, ins), *_ = made.configure_fit(2, ndarrays_to_parameters(START), federation(walk, walk)[1])
    assert ins.config == {"lr": 0.2}
    with pytest.raises(TypeError, match="min_train_nodes"):
        RobustFedAvg(DEFAULT, min_train_nodes=2)


def test_every_keyword_arrives_where_flower_keeps_it():
    given = {name: object() for name in inspect.signature(FedAvg.__init__).parameters if name.endswith("_fn")}
    given |= {"fraction_fit": 0.1, "fraction_evaluate": 0.2, "min_fit_clients": 3, "min_evaluate_clients": 4}
    given |= {"min_available_clients": 5, "accept_failures": False, "inplace": False}
    given |= {"initial_parameters": ndarrays_to_parameters(START)}
    assert given.keys() == LegacyFedAvgOptions.__annotations__.keys()
    expected = vars(FedAvg(**given))
    assert {name: vars(RobustFedAvg(**given))[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RobustFedAvg("krum"), "RobustFedAvg was given 'krum'; give a rule or chain of flwr_robust.rules"),
        (lambda: RobustFedAvg(flwr_robust.ARC(flwr_robust.Median(num_malicious_nodes=1))), "whose .rule is one"),
        (lambda: RobustFedAvg(DEFAULT, server_learning_rate=-1.0), "RobustFedAvg was given server_learning_rate"),
        (lambda: RobustFedAvg(DEFAULT, exclude_after=0.5), "without suspicion"),
        (lambda: RobustFedAvg(DEFAULT, num_malicious_nodes=0.7), "whole number of rows"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_f_comes_from_the_rule_and_is_logged(caplog):
    assert RobustFedAvg(DEFAULT).num_malicious_nodes == 1
    assert repr(RobustFedAvg(rules.Krum(f=2))) == "RobustFedAvg(Krum(f=2))"
    assert repr(RobustFedAvg()) == "RobustFedAvg(Median())"
    with caplog.at_level(logging.INFO, logger="flwr"):
        RobustFedAvg(rules.Krum(), initial_parameters=ndarrays_to_parameters(START)).initialize_parameters(manager([]))
    assert "Chain: Krum(f=0)" in caplog.text
    assert "tolerates no malicious node" in caplog.text


def test_flowers_privacy_wrapper_runs_around_it():
    inner = RobustFedAvg(DEFAULT, initial_parameters=ndarrays_to_parameters(START), **waiting(5))
    strategy = DifferentialPrivacyServerSideFixedClipping(
        inner, noise_multiplier=0.01, clipping_norm=5.0, num_sampled_clients=5
    )
    arrays, _ = train(strategy, federation(*[walk] * 4, flip)[1], rounds=3)
    assert max(float(np.abs(a - 1).max()) for a in arrays) < 0.4
    assert inner.reports[-1].n == 5
