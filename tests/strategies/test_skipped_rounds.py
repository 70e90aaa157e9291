"""Too few usable replies: the round is skipped, and the run ends with the last good model."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp import strategy as flower

from flwr_robust import ARC, NNM, Bulyan, Krum, TrimmedMean
from tests.flower_messages import FakeGrid, error, record, reply, trainer, values

NODES = [1, 2, 3, 4, 5]
START = {"w": np.full(3, 2.0, np.float32), "steps": np.array(5, np.int64)}

STRATEGIES = {
    "plain": lambda: TrimmedMean(num_malicious_nodes=1, min_train_nodes=5),
    "wrapped": lambda: ARC(NNM(Krum(num_malicious_nodes=1, min_train_nodes=5))),
    "rewriting": lambda: ARC(flower.FedMedian(min_train_nodes=5), num_malicious_nodes=1),
}


def one_step(node, message):
    return trainer(lambda _: 1)(node, message)


def nothing(node, message):
    return None


def errors(node, message):
    return Message(error(node).error, reply_to=message)


def broken(node, message):
    """Two usable replies, three with other shapes or NaN."""
    if message.metadata.message_type == "evaluate" or node <= 2:
        return one_step(node, message)
    wrong = {"w": np.full(3 + node % 2, np.nan, np.float32), "steps": np.array(9, np.int64)}
    return reply(node, wrong)


class Changing:
    """Nodes that behave in another way in each round; keeps what they were sent."""

    def __init__(self, *ways):
        self.ways = ways
        self.sent = []

    def __call__(self, node, message):
        if message.metadata.message_type == "evaluate":
            return None
        current = message.content["config"]["server-round"]
        if node == NODES[0]:
            self.sent.append(float(values(message.content["arrays"])["w"][0]))
        return self.ways[current - 1](node, message)


@pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("bad", [nothing, errors, broken])
@pytest.mark.parametrize("order", ["last", "between", "first"])
def test_the_result_holds_the_last_good_model(make, bad, order):
    ways = {"last": [one_step, bad, bad], "between": [one_step, bad, one_step], "first": [bad, bad, one_step]}[order]
    nodes = Changing(*ways)
    strategy = make()
    result = strategy.start(grid=FakeGrid(NODES, nodes), initial_arrays=record(START), num_rounds=3)
    good = ways.count(one_step)
    assert values(result.arrays)["w"].tolist() == [2.0 + good] * 3
    assert values(result.arrays)["steps"] == 5 + good
    assert [report.skipped is not None for report in strategy.reports] == [way is bad for way in ways]
    # What a skipped round leaves is what the next one sends.
    expected = [2.0 + ways[:current].count(one_step) for current in range(3)]
    assert nodes.sent == expected
    for current, way in enumerate(ways, start=1):
        assert result.train_metrics_clientapp[current]["robust/skipped"] == (way is bad)


@pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES)
def test_where_every_round_is_skipped_the_result_is_the_initial_model(make):
    result = make().start(grid=FakeGrid(NODES, nothing), initial_arrays=record(START), num_rounds=2)
    assert values(result.arrays)["w"].tolist() == [2.0] * 3
    assert values(result.arrays)["steps"] == 5


def test_the_report_says_why_with_the_numbers():
    strategy = TrimmedMean(num_malicious_nodes=1, min_train_nodes=5)
    strategy.start(grid=FakeGrid(NODES, broken), initial_arrays=record(START), num_rounds=1)
    (report,) = strategy.reports
    assert "n = 2 rows with f = 1" in report.skipped
    assert report.n == 2
    assert {node for node, fate in report.nodes.items() if fate.accepted} == {1, 2}
    assert all(report.nodes[node].reason for node in (3, 4, 5))


def test_a_round_with_too_few_nodes_asked_is_skipped_too():
    strategy = Bulyan(num_malicious_nodes=1, min_train_nodes=2)
    result = strategy.start(grid=FakeGrid(NODES, one_step), initial_arrays=record(START), num_rounds=1)
    assert values(result.arrays)["w"].tolist() == [2.0] * 3
    assert "needs n >= 4f + 3" in strategy.reports[0].skipped


def test_a_foreign_strategy_that_returns_no_model_leaves_the_old_one():
    class Undecided(flower.FedAvg):
        def aggregate_train(self, server_round, replies):
            return None, None

    strategy = ARC(Undecided(), num_malicious_nodes=1)
    result = strategy.start(grid=FakeGrid(NODES, one_step), initial_arrays=record(START), num_rounds=1)
    assert values(result.arrays)["w"].tolist() == [2.0] * 3
