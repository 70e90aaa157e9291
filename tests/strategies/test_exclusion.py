"""What strategies do with suspicion: nodes above the threshold are not asked to train."""

from __future__ import annotations

import logging
import random
from collections import Counter

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp import strategy as flower

from flwr_robust import (
    ARC,
    NNM,
    Bucketing,
    CenteredClipping,
    Krum,
    Median,
    MultiKrum,
    RobustStrategy,
    StaticClipping,
    TrimmedMean,
    rules,
)
from tests.flower_messages import FakeGrid, error, record, reply, trainer, values

START = record({"w": np.zeros(4, np.float32)})


def hostile(bad, step=lambda node: np.float32(node % 7)):
    """Nodes that train, of which some always send NaN."""
    honest = trainer(step)

    def answer(node, message):
        if node in bad and message.metadata.message_type == "train":
            return reply(node, {"w": np.full(4, np.nan, np.float32)})
        return honest(node, message)

    return answer


def asked(strategy, grid, current=1):
    messages = list(strategy.configure_train(current, START, ConfigRecord(), grid))
    return [message.metadata.dst_node_id for message in messages]


CHAINS = {
    "wrapped": lambda **options: ARC(NNM(TrimmedMean(num_malicious_nodes=2, **options))),
    "rule": lambda **options: RobustStrategy(rules.TrimmedMean(2), **options),
    "foreign": lambda min_train_nodes, **options: NNM(
        ARC(flower.FedMedian(min_train_nodes=min_train_nodes), num_malicious_nodes=2, **options),
        num_malicious_nodes=2,
    ),
    "selecting": lambda **options: MultiKrum(num_malicious_nodes=2, num_nodes_to_select=7, **options),
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_nodes_that_always_send_nan_are_excluded_from_training_only(make, caplog):
    strategy = make(suspicion=0.5, exclude_after=0.7, min_train_nodes=9)
    nodes = [11, 12, 13, 14, 15, 16, 17, 2**64 - 1, 2**63]
    bad = {2**64 - 1, 2**63}
    trained, evaluated = [], []

    def answer(node, message):
        (trained if message.metadata.message_type == "train" else evaluated).append(node)
        return hostile(bad)(node, message)

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy.start(grid=FakeGrid(nodes, answer), initial_arrays=START, num_rounds=5)
    # 1 - 0.5^2 = 0.75 is the first value above 0.7.
    assert {node: strategy.suspicions[node] for node in bad} == dict.fromkeys(bad, 0.75)
    assert all(strategy.suspicions[node] < 0.7 for node in nodes if node not in bad)
    counts = Counter(trained)
    assert all(counts[node] == (2 if node in bad else 5) for node in nodes)
    assert Counter(evaluated) == dict.fromkeys(nodes, 5)
    assert [len(report.excluded) for report in strategy.reports] == [0, 0, 2, 2, 2]
    assert set(strategy.reports[-1].excluded) == bad
    assert caplog.text.count("is excluded from training: its suspicion is 0.750, above 0.7") == 2


def test_wrappers_take_the_options_too_and_inherit_the_others(tmp_path):
    path = tmp_path / "report.jsonl"
    inner = TrimmedMean(num_malicious_nodes=1, suspicion=0.5, exclude_after=0.7)
    for strategy in (
        NNM(inner, report_path=path),
        StaticClipping(Bucketing(flower.FedAvg(), s=1, suspicion=0.5, exclude_after=0.7), max_norm=9, report_path=path),
    ):
        assert repr(strategy.record.suspicion) == "Suspicion(decay=0.5, exclude_after=0.7)"
        strategy.aggregate_train(1, [reply(i, {"w": np.zeros(4, np.float32)}) for i in range(3)] + [error(3)])
        assert strategy.suspicions[3] == 0.5
        strategy.reset()
        assert strategy.suspicions == {}
    assert len(path.read_text().splitlines()) == 2
    # A wrapper's record is that of what it wraps.
    inner.record.suspicion.values = {1: 0.9}
    assert ARC(inner).suspicions == {1: 0.9}
    assert ARC(inner, suspicion=0.25).record.suspicion.decay == 0.25
    with pytest.raises(ValueError, match="ARC was given suspicion = 2"):
        ARC(flower.FedAvg(), num_malicious_nodes=1, suspicion=2)


def test_summary_tells_the_record_and_warns_where_nobody_can_be_excluded(caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        Median(num_malicious_nodes=1, suspicion=0.9, exclude_after=0.8).summary()
    assert "Suspicion(decay=0.9, exclude_after=0.8)" in caplog.text
    assert "excludes nobody" not in caplog.text
    with caplog.at_level(logging.INFO, logger="flwr"):
        Median(suspicion=0.9, exclude_after=0.8).summary()
    assert "num_malicious_nodes is 0, so exclude_after excludes nobody" in caplog.text


def test_off_by_default():
    strategy = TrimmedMean(num_malicious_nodes=1, min_train_nodes=5)
    strategy.start(grid=FakeGrid([1, 2, 3, 4, 5], hostile({5})), initial_arrays=START, num_rounds=4)
    assert strategy.suspicions == {}
    assert all(5 in report.nodes and not report.excluded for report in strategy.reports)
    assert list(strategy.state()) == []


def test_at_most_f_are_excluded_the_most_suspicious_first():
    strategy = Median(num_malicious_nodes=2, suspicion=0.5, exclude_after=0.1)
    grid = FakeGrid([1, 2, 3, 4, 5, 6], lambda *_: None)
    strategy.record.suspicion.values = {1: 0.5, 2: 0.9, 3: 0.5, 4: 0.05, 99: 1.0}
    strategy.min_train_nodes = 6
    assert sorted(asked(strategy, grid)) == [3, 4, 5, 6]
    fraction = Median(num_malicious_nodes=0.2, suspicion=0.5, exclude_after=0.1)
    fraction.record.suspicion.values = {1: 0.5, 2: 0.9}
    assert sorted(asked(fraction, grid)) == [1, 3, 4, 5, 6]
    nobody = Median(suspicion=0.5, exclude_after=0.1)
    nobody.record.suspicion.values = {1: 0.5, 2: 0.9}
    assert sorted(asked(nobody, grid)) == [1, 2, 3, 4, 5, 6]


def test_a_rule_keeps_the_replies_that_it_needs():
    strategy = TrimmedMean(num_malicious_nodes=2, suspicion=0.5, exclude_after=0.1)
    strategy.record.suspicion.values = {1: 0.9, 2: 0.8}
    assert len(asked(strategy, FakeGrid([1, 2, 3, 4, 5], lambda *_: None))) == 5
    assert sorted(asked(strategy, FakeGrid([1, 2, 3, 4, 5, 6], lambda *_: None))) == [2, 3, 4, 5, 6]


def test_others_take_the_places_of_excluded_nodes_uniformly():
    random.seed(4)
    suspicion = {"suspicion": 0.5, "exclude_after": 0.1, "forgive_after": None}
    strategy = Median(num_malicious_nodes=2, fraction_train=0.5, **suspicion)
    strategy.record.suspicion.values = {1: 0.9, 2: 0.8}
    grid = FakeGrid(list(range(1, 9)), lambda *_: None)
    drawn = [asked(strategy, grid, current) for current in range(1, 1201)]
    assert all(len(nodes) == len(set(nodes)) == 4 for nodes in drawn)
    counts = Counter(node for nodes in drawn for node in nodes)
    assert set(counts) == {3, 4, 5, 6, 7, 8}
    # 800 each, with a standard deviation of 16.
    assert all(abs(count - 800) < 80 for count in counts.values())
    assert len({frozenset(nodes) for nodes in drawn}) == 15  # all subsets of four out of six


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_an_excluded_node_is_asked_again(make, caplog):
    strategy = make(min_train_nodes=8, suspicion=0.5, exclude_after=0.7, forgive_after=3)
    grid = FakeGrid(list(range(1, 9)), hostile({8}))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy.start(grid=grid, initial_arrays=START, num_rounds=8)
    excluded = [8 in report.excluded for report in strategy.reports]
    assert excluded == [False, False, True, True, True, False, True, True]
    assert caplog.text.count("Node 8 is asked to train again: it was excluded for 3 rounds") == 1


def test_a_node_that_was_not_asked_keeps_its_value():
    strategy = Median(num_malicious_nodes=1, suspicion=0.5)
    strategy.record.suspicion.values = {7: 0.4}
    asked(strategy, FakeGrid([1, 2, 3], lambda *_: None))
    replies = [reply(i, {"w": np.zeros(4, np.float32)}) for i in (1, 2)]
    strategy.aggregate_train(1, [*replies, error(3), error(7), reply(8, {"w": np.zeros(4, np.float32)})])
    assert strategy.suspicions == {7: 0.4, 1: 0.0, 2: 0.0, 3: 0.5}


def test_zero_weights_count():
    strategy = Krum(num_malicious_nodes=1, suspicion=0.75)
    sent = [0.0, 0.1, 0.2, 9.0]
    strategy.aggregate_train(1, [reply(i, {"w": np.full(4, v, np.float32)}) for i, v in enumerate(sent)])
    (chosen,) = [node for node, fate in strategy.reports[0].nodes.items() if fate.weight == 1.0]
    assert strategy.suspicions == {node: 0.0 if node == chosen else 0.25 for node in range(4)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ARC(CenteredClipping(num_malicious_nodes=1, suspicion=0.5, exclude_after=0.7, min_train_nodes=5)),
        lambda: ARC(flower.FedMedian(min_train_nodes=5), num_malicious_nodes=1, suspicion=0.5, exclude_after=0.7),
    ],
    ids=["ours", "foreign"],
)
def test_a_resumed_run_excludes_whom_an_unbroken_one_excludes(make):
    grid = FakeGrid([1, 2, 3, 4, 5], hostile({5}))
    unbroken = make()
    middle = unbroken.start(grid=grid, initial_arrays=START, num_rounds=2).arrays
    saved = unbroken.state()
    end = unbroken.start(grid=grid, initial_arrays=middle, num_rounds=2).arrays
    resumed = make()
    resumed.load_state(saved)
    again = resumed.start(grid=grid, initial_arrays=middle, num_rounds=2).arrays
    assert resumed.suspicions == unbroken.suspicions
    assert [report.excluded for report in resumed.reports] == [[5], [5]]
    assert np.allclose(values(again)["w"], values(end)["w"])
    resumed.reset()
    assert resumed.suspicions == {}
    assert sorted(asked(resumed, grid)) == [1, 2, 3, 4, 5]
