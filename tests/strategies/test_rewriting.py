"""NNM, ARC and Bucketing around strategies of other libraries, whose replies they rewrite."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from flwr_robust import ARC, NNM, Bucketing, rules
from tests.flower_messages import FakeGrid, ask, error, record, reply, trainer, values


def vectors(n=9, d=40, seed=1):
    X = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    X[:2] *= 50
    return X


def aggregated(strategy, X):
    arrays, metrics = strategy.aggregate_train(1, [reply(i, {"a": x[:15], "b": x[15:]}) for i, x in enumerate(X)])
    return np.concatenate(list(values(arrays).values())), metrics


@pytest.mark.parametrize("inner", [flower.FedAvg, flower.FedMedian, lambda: flower.Krum(num_malicious_nodes=2)])
def test_the_strategy_sees_mixed_and_clipped_updates(inner):
    X = vectors()
    strategy = ARC(NNM(inner(), num_malicious_nodes=2), num_malicious_nodes=2)
    mixed = rules.chain(rules.ARC(2), rules.NNM(2))(X)
    expected, _ = aggregated(inner(), mixed)
    found, metrics = aggregated(strategy, X)
    assert np.allclose(found, expected, atol=1e-6)
    # k = floor(2 * 2/9 * 7) = 3.
    assert metrics["robust/num-clipped"] == 3
    assert strategy.reports[-1].threshold == pytest.approx(np.sort(np.linalg.norm(X, axis=1))[-4], rel=1e-6)
    assert strategy.reports[-1].chain == f"ARC(f=2) > NNM(f=2) > {type(inner()).__name__}"
    assert strategy.num_malicious_nodes == 2


def test_it_moves_from_the_model_that_was_sent():
    strategy = ARC(flower.FedAdam(eta=0.1), num_malicious_nodes=1)
    grid = FakeGrid([1, 2, 3, 4], trainer(lambda node: np.float32(1e6 if node == 1 else 1.0)))
    start = {"w": np.full(3, 5.0, np.float32), "n": np.array(0, np.int64)}
    result = strategy.start(grid=grid, initial_arrays=record(start), num_rounds=2)
    # Adam's first steps have length eta, whatever the clipped update's length.
    assert np.allclose(values(result.arrays)["w"], 5.2, atol=0.05)
    assert [report.n for report in strategy.reports] == [4, 4]


def test_it_sees_usable_replies_of_equal_weight_only():
    good = [reply(i, {"w": np.full(3, 1.0 + i, np.float32)}, {"num-examples": 10**6, "loss": 1.0}) for i in range(4)]
    bad = [
        error(10),
        reply(11, {"w": np.full(3, np.nan, np.float32)}),
        reply(12, {"w": np.zeros(4, np.float32)}),
        reply(13, {"w": np.zeros(3, np.float32)}, {"loss": [1.0]}),
    ]
    strategy = ARC(flower.FedAvg(), num_malicious_nodes=1)
    arrays, metrics = strategy.aggregate_train(1, [*bad, *good])
    X = np.stack([np.zeros(3), *(np.full(3, 1.0 + i) for i in range(4))])
    assert np.allclose(values(arrays)["w"], rules.chain(rules.ARC(1), rules.Mean())(X))
    assert metrics["loss"] == 1.0
    assert {i for i, node in strategy.reports[-1].nodes.items() if not node.accepted} == {10, 11, 12}


def test_counters_stay_integers_that_no_node_can_poison():
    """Flower's average would turn them into floats, and honest nodes, which count on, would be of another dtype."""
    start = {"w": np.zeros(3, np.float32), "n": np.array(4, np.int64)}
    strategy = NNM(flower.FedAvg(), num_malicious_nodes=1)

    def answer(node, message):
        counted = np.array(2**62 if node == 1 else int(values(message.content["arrays"])["n"]) + 1, np.int64)
        arrays = record({"w": start["w"], "n": counted})
        return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord()}), reply_to=message)

    result = strategy.start(grid=FakeGrid([1, 2, 3, 4], answer), initial_arrays=record(start), num_rounds=3)
    assert [report.n for report in strategy.reports] == [4, 4, 4]
    assert values(result.arrays)["n"] == 7
    assert values(result.arrays)["n"].dtype == np.int64


def test_one_node_that_names_its_record_otherwise_does_not_stop_it():
    X = vectors()
    sent = [reply(i, {"a": x}) for i, x in enumerate(X)]
    sent[4] = Message(RecordDict({"mine": record({"a": X[4]})}), reply_to=ask(4))
    arrays, _ = ARC(flower.FedAvg(), num_malicious_nodes=2).aggregate_train(1, sent)
    assert np.allclose(values(arrays)["a"], rules.ARC(2)(X).mean(axis=0), atol=1e-6)


class Broken(flower.FedAvg):
    """Fails, or makes NaN, from the second round on."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def aggregate_train(self, server_round, replies):
        if server_round > 1 and self.how == "raises":
            raise ZeroDivisionError("no\nreplies")
        arrays, metrics = super().aggregate_train(server_round, replies)
        return (record({"w": np.full(2, np.nan, np.float32)}) if server_round > 1 else arrays), metrics

    def aggregate_evaluate(self, server_round, replies):
        raise KeyError("accuracy")


@pytest.mark.parametrize(
    ("how", "reason"), [("raises", "Broken failed on usable replies: ZeroDivisionError"), ("makes nan", "made NaN")]
)
def test_a_failure_costs_its_round(how, reason):
    strategy = ARC(Broken(how), num_malicious_nodes=1)
    grid = FakeGrid([1, 2, 3, 4], trainer(lambda node: np.float32(1.0)))
    result = strategy.start(grid=grid, initial_arrays=record({"w": np.zeros(2, np.float32)}), num_rounds=3)
    assert np.array_equal(values(result.arrays)["w"], [1.0, 1.0])
    assert [report.skipped is None for report in strategy.reports] == [True, False, False]
    assert reason in strategy.reports[-1].skipped
    assert result.evaluate_metrics_clientapp == {}


def test_bucketing_hands_on_fewer_replies():
    X = vectors(n=8)
    strategy = Bucketing(flower.FedMedian(), s=2, seed=3)
    found, metrics = aggregated(strategy, X)
    assert np.allclose(found, np.median(rules.Bucketing(s=2, seed=3)(X), axis=0), atol=1e-6)
    assert metrics["robust/num-accepted"] == 8


def test_too_few_replies_skip_the_round():
    start = record({"w": np.ones(2, np.float32)})
    strategy = NNM(flower.FedAvg(), num_malicious_nodes=2)
    list(strategy.configure_train(1, start, ConfigRecord(), FakeGrid([1, 2, 3], lambda *_: None)))
    arrays, metrics = strategy.aggregate_train(1, [reply(i, {"w": np.zeros(2, np.float32)}) for i in (1, 2, 3)])
    assert arrays is start
    assert metrics["robust/skipped"] == 1


def test_evaluation_goes_through_the_strategy():
    strategy = ARC(flower.FedAvg(), num_malicious_nodes=1)
    replies = [reply(i, {}, {"num-examples": 10**i, "accuracy": 0.1 * i}, kind="evaluate") for i in range(5)]
    weights = [10**i for i in range(5)]
    expected = np.average([0.1 * i for i in range(5)], weights=weights)
    assert strategy.aggregate_evaluate(1, [*replies, error(9)])["accuracy"] == pytest.approx(expected)
    assert strategy.aggregate_evaluate(1, []) is None


def test_attributes_and_the_summary_are_those_of_the_strategy(caplog):
    strategy = ARC(flower.FedAdam(eta=0.25, fraction_evaluate=0.5), num_malicious_nodes=1, suspicion=0.9)
    assert (strategy.eta, strategy.fraction_evaluate, strategy.rule) == (0.25, 0.5, None)
    with pytest.raises(AttributeError, match="no_such_thing"):
        strategy.no_such_thing  # noqa: B018
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.summary()
    assert "Replies are rewritten for FedAdam by:" in caplog.text
    assert "ARC(f=1)" in caplog.text
    assert "Suspicion(decay=0.9)" in caplog.text
    assert "eta (0.25)" in caplog.text
