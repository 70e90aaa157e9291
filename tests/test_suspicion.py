"""The record of nodes that were left out: its mathematics, and what strategies do with it."""

from __future__ import annotations

import logging
import random
from collections import Counter

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp import strategy as flower
from hypothesis import given
from hypothesis import strategies as st

from flwr_robust import (
    ARC,
    LASA,
    NNM,
    Bucketing,
    Bulyan,
    CenteredClipping,
    Krum,
    Median,
    MultiKrum,
    RobustStrategy,
    StaticClipping,
    TrimmedMean,
    rules,
)
from flwr_robust.record.suspicion import Suspicion, max_excluded
from tests.flower_messages import FakeGrid, error, record, reply, trainer, values

START = record({"w": np.zeros(4, np.float32)})


def slow_suspicion(decay, history):
    """The sum that the recursion stands for; None are rounds in which the node did not take part."""
    took_part = [share for share in history if share is not None]
    n = len(took_part)
    return sum((1 - decay) * decay ** (n - 1 - k) * share for k, share in enumerate(took_part))


@given(
    st.floats(0.01, 0.99),
    st.lists(st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=3, max_size=3), max_size=12),
)
def test_the_recursion_is_the_weighted_sum(decay, rounds):
    suspicion = Suspicion(decay)
    for shares in rounds:
        suspicion.update({node: share for node, share in enumerate(shares) if share is not None})
    for node in range(3):
        expected = slow_suspicion(decay, [shares[node] for shares in rounds])
        assert suspicion.values.get(node, 0.0) == pytest.approx(expected, abs=1e-12)
        assert 0.0 <= suspicion.values.get(node, 0.0) <= 1.0


def test_k_rounds_in_a_row_leave_1_minus_decay_to_the_k():
    suspicion = Suspicion(0.9)
    for _ in range(7):
        suspicion.update({3: 1.0})
    assert suspicion.values[3] == pytest.approx(1 - 0.9**7)


def test_the_most_suspicious_come_first_and_ties_go_by_id():
    suspicion = Suspicion(0.5, exclude_after=0.4)
    suspicion.values = {9: 0.7, 2: 0.7, 5: 0.9, 1: 0.4, 7: 0.99}
    assert suspicion.above([1, 2, 5, 9, 100], most=10) == [5, 2, 9]
    assert suspicion.above([9, 2, 5, 1], most=2) == [5, 2]
    assert suspicion.above([9, 2, 5], most=0) == []
    assert Suspicion(0.5).above([9], most=3) == []


def test_the_threshold_1_excludes_nobody_ever():
    suspicion = Suspicion(0.01, exclude_after=1.0)
    for _ in range(100):
        suspicion.update({1: 1.0})
    assert suspicion.above([1], most=1) == []


def test_never_so_many_are_excluded_that_the_rule_lacks_replies():
    def at_least(least):
        return lambda n: n >= least

    assert max_excluded(10, 10, 3, at_least(7)) == 3
    assert max_excluded(10, 10, 3, at_least(9)) == 1
    assert max_excluded(10, 10, 3, at_least(10)) == 0
    # Others take the places: five of ten are asked in any case, whether that is enough or not.
    assert max_excluded(5, 10, 3, at_least(5)) == 3
    assert max_excluded(5, 10, 3, at_least(6)) == 3
    assert max_excluded(2, 2, 5, at_least(0)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suspicion": 1.0}, r"TrimmedMean was given suspicion = 1.0; give a number in \(0, 1\)"),
        ({"suspicion": 0}, r"suspicion = 0; give a number in \(0, 1\)"),
        ({"suspicion": True}, "suspicion = True"),
        ({"suspicion": "0.9"}, "suspicion = '0.9'"),
        ({"suspicion": float("nan")}, "suspicion = nan"),
        ({"suspicion": 0.9, "exclude_after": 0.0}, r"exclude_after = 0.0; give a number in \(0, 1\]"),
        ({"suspicion": 0.9, "exclude_after": 1.5}, "exclude_after = 1.5"),
        ({"exclude_after": 0.5}, "exclude_after = 0.5 without suspicion.*give suspicion=0.9"),
    ],
)
def test_wrong_numbers_are_refused_early(options, message):
    with pytest.raises(ValueError, match=message):
        TrimmedMean(num_malicious_nodes=1, **options)


def test_state_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="'nodes' and 'values'"):
        Suspicion(0.5).load_state({"nodes": np.zeros(2, np.uint64)})
    for make in (Krum, lambda **options: ARC(flower.FedAvg(), num_malicious_nodes=1, **options)):
        with pytest.raises(ValueError, match=r"keeps none: give it suspicion=0.9"):
            make().load_state(make(suspicion=0.9).state())


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
    assert ARC(inner, suspicion=0.25).record.suspicion.decay == 0.25
    assert ARC(inner, suspicion=None, exclude_after=None).record.suspicion is None
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
    strategy = Median(num_malicious_nodes=2, suspicion=0.5, exclude_after=0.1, fraction_train=0.5)
    strategy.record.suspicion.values = {1: 0.9, 2: 0.8}
    grid = FakeGrid(list(range(1, 9)), lambda *_: None)
    drawn = [asked(strategy, grid, current) for current in range(1, 1201)]
    assert all(len(nodes) == len(set(nodes)) == 4 for nodes in drawn)
    counts = Counter(node for nodes in drawn for node in nodes)
    assert set(counts) == {3, 4, 5, 6, 7, 8}
    # 800 each, with a standard deviation of 16.
    assert all(abs(count - 800) < 80 for count in counts.values())
    assert len({frozenset(nodes) for nodes in drawn}) == 15  # all subsets of four out of six


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


def test_a_skipped_round_counts_quarantines_only():
    strategy = Krum(num_malicious_nodes=2, suspicion=0.5)
    replies = [reply(i, {"w": np.zeros(4, np.float32)}) for i in (1, 2)]
    strategy.aggregate_train(1, [*replies, error(3)])
    assert strategy.reports[0].skipped
    assert {node: fate.status for node, fate in strategy.reports[0].nodes.items()} == {
        1: "accepted",
        2: "accepted",
        3: "quarantined",
    }
    assert strategy.suspicions == {3: 0.5}


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


def test_wrappers_start_with_an_empty_record_of_their_own():
    inner = TrimmedMean(num_malicious_nodes=1, suspicion=0.5, exclude_after=0.7)
    inner.record.suspicion.values = {1: 0.9}
    wrapped = ARC(inner)
    assert wrapped.suspicions == {}
    wrapped.aggregate_train(1, [reply(i, {"w": np.zeros(4, np.float32)}) for i in range(3)] + [error(3)])
    assert wrapped.suspicions == {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.5}
    assert inner.suspicions == {1: 0.9}


def layered(strategy, X):
    replies = [reply(i, {"a": x[:2], "b": x[2:]}) for i, x in enumerate(X.astype(np.float32))]
    strategy.aggregate_train(1, replies)
    nodes = strategy.reports[-1].nodes
    return [nodes[i].used for i in range(len(X))]


def test_lasa_tells_the_share_of_layers_in_which_each_node_counted():
    X = np.ones((6, 4)) + np.arange(6)[:, None] * 1e-3
    X[5, :2] = 50.0  # its first layer is far too long, its second one like the others'
    strategy = LASA(sparsity=0.0, suspicion=0.5)
    assert layered(strategy, X)[5] == 0.5
    assert strategy.suspicions[5] == 0.25
    everywhere = X.copy()
    everywhere[5] = 50.0
    assert layered(LASA(sparsity=0.0), everywhere)[5] == 0.0


def test_bulyan_tells_which_updates_it_chose():
    X = np.random.default_rng(2).standard_normal((7, 4))
    X[3] += 100
    used = layered(Bulyan(num_malicious_nodes=1), X)
    assert used[3] == 0.0
    # theta = n - 2f of the rows.
    assert sorted(used) == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    # Behind mixing an update counts where a chosen row holds it: here all of them.
    assert layered(NNM(Bulyan(num_malicious_nodes=1)), X).count(0.0) <= 1
