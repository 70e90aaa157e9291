"""`Observe`: training is what it is without it, and each candidate is what it is alone."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from flwr_robust import ARC, NNM, CenteredClipping, Krum, Mean, Observe, RobustStrategy, rules
from flwr_robust.record.report import read_reports
from tests.flower_messages import FakeGrid, error, record, reply, values

NODES = list(range(1, 10))
START = {"a": np.zeros((3, 5), np.float32), "b": np.ones(7, np.float32), "n": np.array(3, np.int64)}
RULES = {"trimmed": rules.TrimmedMean(f=2), "krum": rules.Krum(f=2), "chain": rules.chain(rules.ARC(2), rules.Median())}


class OwnLoop(flower.FedAvg):
    """A project's strategy with a loop, and a choice of nodes, of its own."""

    def configure_train(self, server_round, arrays, config, grid):
        return iter(list(super().configure_train(server_round, arrays, config, grid))[: random.randint(6, 9)])

    def start(self, grid, initial_arrays, num_rounds):
        for number in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(number, initial_arrays, ConfigRecord(), grid))
            initial_arrays, _ = self.aggregate_train(number, replies)
        return initial_arrays


class Meddler(flower.FedAvg):
    """Overwrites the messages that it gets."""

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        result = super().aggregate_train(server_round, replies)
        for message in replies:
            message.content = RecordDict({"arrays": record({"a": np.full(3, np.nan)})})
        return result


MAKE = {
    "ours": lambda: RobustStrategy(rules.TrimmedMean(f=2), server_momentum=0.5, max_reply_bytes=10**6),
    "stateful": lambda: CenteredClipping(server_learning_rate=0.5),
    "wrapped": lambda: ARC(NNM(Krum(num_malicious_nodes=2))),
    "rewritten": lambda: ARC(flower.FedAdam(), num_malicious_nodes=2),
    "handed on": lambda: RobustStrategy(rules.Median(), strategy=flower.FedAdam()),
    "foreign": flower.FedAvg,
    "foreign with a memory": flower.FedAdam,
    "in a wrapper of Flower's": lambda: flower.DifferentialPrivacyServerSideFixedClipping(Mean(), 0.0, 1.0, 9),
    "own loop": OwnLoop,
    "meddling": Meddler,
}


def nodes(lies=()):
    """Answer with a step of a node's own, which depends on the model; some with large ones."""

    def answer(node, message):
        if message.metadata.message_type == "evaluate":
            return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "loss": 1.0})}), reply_to=message)
        sent = values(message.content["arrays"])
        rng = np.random.default_rng(node)
        moved = {k: v if v.dtype == np.int64 else (v + rng.standard_normal(v.shape) - v / 9) for k, v in sent.items()}
        if node in lies:
            moved = {k: v if v.dtype == np.int64 else -100 * v for k, v in moved.items()}
        arrays = record({k: v.astype(sent[k].dtype) for k, v in moved.items()})
        return Message(
            RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": node, "loss": 1.0})}),
            reply_to=message,
        )

    return answer


def train(strategy, answer=None, rounds=3):
    random.seed(4)
    np.random.seed(4)
    result = strategy.start(
        grid=FakeGrid(NODES, answer or nodes(lies=(1, 2))), initial_arrays=record(START), num_rounds=rounds
    )
    arrays = getattr(result, "arrays", result)
    return {name: array.data for name, array in arrays.items()}, (random.random(), np.random.random())


class Draws(rules.Rule):
    """A rule of a user's that draws from everybody's generators, and overwrites what it reads."""

    def aggregate(self, rows, f):
        random.random()
        np.random.random()
        found = rows.reduce(lambda block, out: np.copyto(out, block[0]))
        rows.scan(lambda block, start, _: block.fill(0), lambda width: None, lambda a, b: None)
        return found


class Fails(rules.Rule):
    def aggregate(self, rows, f):
        raise MemoryError("no room")


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_training_is_bit_identical_and_each_candidate_is_reported(make):
    alone = train(make())
    strategy = Observe(make(), RULES | {"mine": Draws(), "failing": Fails(), "too many": rules.Krum(f=40)})
    assert train(strategy) == alone
    assert [report.round for report in strategy.reports] == [1, 2, 3]
    for report in strategy.reports:
        assert list(report.candidates) == [*RULES, "mine", "failing", "too many"]
        for name in RULES:
            found = report.candidates[name]
            assert found.failed is None
            assert found.distance > 0
            assert -1 <= found.cosine <= 1
        assert len(report.candidates["krum"].left_out) == report.n - 1
        assert report.candidates["failing"].failed == "MemoryError: no room"
        assert "n = " in report.candidates["too many"].failed


def test_a_candidate_is_what_the_rule_makes_of_the_updates():
    strategy = Observe(flower.FedAvg(), RULES)
    X = np.random.default_rng(0).standard_normal((9, 12)).astype(np.float32)
    strategy.aggregate_train(1, [reply(i, {"a": x[:5], "b": x[5:]}) for i, x in enumerate(X)])
    step = X.mean(axis=0)
    report = strategy.reports[-1]
    assert report.step_norm == pytest.approx(np.linalg.norm(step), rel=1e-5)
    for name, rule in RULES.items():
        expected, found = rule(X), report.candidates[name]
        assert found.norm == pytest.approx(np.linalg.norm(expected), rel=1e-5)
        assert found.distance == pytest.approx(np.linalg.norm(expected - step), rel=1e-5)
        assert found.cosine == pytest.approx(
            expected @ step / np.linalg.norm(expected) / np.linalg.norm(step), rel=1e-5
        )


def test_the_one_in_use_is_at_no_distance_from_itself():
    strategy = Observe(RobustStrategy(rules.TrimmedMean(f=2)), {"same": rules.TrimmedMean(f=2)})
    train(strategy)
    for report in strategy.reports:
        assert report.candidates["same"].distance < 1e-5 * report.step_norm
        assert report.candidates["same"].cosine == pytest.approx(1.0)
        assert report.chain == "TrimmedMean(f=2)"


def test_what_candidates_remember_is_their_own():
    shared = rules.CenteredClipping()
    strategy = Observe(RobustStrategy(shared), {"same": shared})
    train(strategy)
    assert strategy.candidates["same"] is not shared
    # Centres that move on with each round: a candidate that forgot its own would fall behind.
    assert [report.candidates["same"].distance for report in strategy.reports] == pytest.approx([0, 0, 0], abs=1e-4)


def test_bad_replies_are_left_out_by_candidates_alone(tmp_path):
    good = [reply(i, {"w": np.full(3, 1.0 + i, np.float32)}) for i in range(5)]
    bad = [error(10), reply(11, {"w": np.full(3, np.nan, np.float32)})]
    seen = []
    strategy = Observe(
        flower.FedAvg(), {"median": rules.Median()}, report_path=tmp_path / "r.jsonl", on_report=seen.append
    )
    arrays, _ = strategy.aggregate_train(1, [*good, *bad])
    assert np.isnan(values(arrays)["w"]).all()
    found = strategy.reports[-1].candidates["median"]
    assert (found.left_out, found.distance, found.cosine) == ([10, 11], None, None)
    assert found.norm == pytest.approx(3 * 3**0.5)
    assert list(read_reports(tmp_path / "r.jsonl")) == strategy.reports == seen


def test_the_summary_says_what_would_have_changed(caplog):
    strategy = Observe(flower.FedAvg(), RULES | {"failing": Fails()})
    with caplog.at_level(logging.INFO, logger="flwr"):
        train(strategy)
    told = [line for line in caplog.messages if "krum: its aggregate is" in line]
    assert len(told) == 1
    assert "medians of 3 rounds" in told[0]
    assert "1 (3 x), 2 (3 x)" in told[0]
    assert any("failed in 3 of 3 rounds" in line for line in caplog.messages)
    assert not any("would have left out" in line for line in caplog.messages[: caplog.messages.index(told[0]) - 1])


def test_what_the_strategy_raises_is_raised():
    class Broken(flower.FedAvg):
        def aggregate_train(self, server_round, replies):
            raise ZeroDivisionError

    strategy = Observe(Broken(), RULES)
    with pytest.raises(ZeroDivisionError):
        strategy.aggregate_train(1, [reply(1, START)])
    assert strategy.reports == []


def test_it_holds_the_strategy():
    inner = flower.FedAvg(fraction_train=0.5)
    strategy = Observe(inner, RULES)
    strategy.fraction_train = 0.25
    assert inner.fraction_train == strategy.fraction_train == 0.25
    assert strategy.strategy is inner
    with pytest.raises(AttributeError, match="no_such"):
        _ = strategy.no_such


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("FedAvg", RULES), {}, r"strategy = 'FedAvg'; give a Flower strategy"),
        ((flower.FedAvg(), {}), {}, r"candidates = \{\}; give rules by name"),
        ((flower.FedAvg(), [rules.Median()]), {}, "give rules by name"),
        ((flower.FedAvg(), {"krum": Krum()}), {}, r"'krum' = .*, whose .rule is one; give a rule"),
        ((flower.FedAvg(), {"trust": rules.FLTrust()}), {}, "give root_fn"),
        ((flower.FedAvg(), RULES), {"on_report": 3}, "give a function that takes a RoundReport"),
    ],
)
def test_what_it_refuses(arguments, options, text):
    with pytest.raises(ValueError, match=text):
        Observe(*arguments, **options)


def test_options_that_it_does_not_take():
    with pytest.raises(TypeError, match="Observe was given 'suspicion', which it does not take; it takes report_path"):
        Observe(flower.FedAvg(), RULES, suspicion=0.9)
