"""RobustStrategy on real Flower messages."""

from __future__ import annotations

import logging
import re
from itertools import product

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from flwr_robust import (
    ARC,
    LASA,
    MDA,
    NNM,
    Bucketing,
    Bulyan,
    CenteredClipping,
    DnC,
    GeometricMedian,
    Krum,
    LFighter,
    Mean,
    Median,
    MixTailor,
    MultiKrum,
    RobustStrategy,
    SparseFed,
    TrimmedMean,
    rules,
)
from tests.flower_messages import FakeGrid, ask, error, flat, mock_reply, models, record, reply, trainer, values
from tests.messages.unusable import MODEL, NOT_FINITE, RECORDS


def silent(node_ids):
    """A grid whose nodes are asked, and reply nothing by themselves."""
    return FakeGrid(list(node_ids), lambda *_: None)


# ---------------------------------------------------------------- the new model


def test_the_models_difference_is_aggregated_from_the_model_that_was_sent():
    start = models(1, seed=5)[0]
    strategy = RobustStrategy(rules.chain(rules.ARC(1), rules.Mean()), server_learning_rate=0.5)
    steps = {1: 1.0, 2: 2.0, 3: 400.0}
    grid = FakeGrid([1, 2, 3], trainer(lambda node: np.float32(steps[node])))
    result = strategy.start(grid=grid, initial_arrays=record(start), num_rounds=1)
    # ARC with n = 3, f = 1 clips the longest update to the next one's norm.
    for name, value in values(result.arrays).items():
        assert np.allclose(value, start[name] + 0.5 * (1 + 2 + 2) / 3, atol=1e-5)


def test_a_whole_run_with_evaluation():
    strategy = TrimmedMean(num_malicious_nodes=1, min_train_nodes=4)
    grid = FakeGrid([1, 2, 3, 4], trainer(lambda node: np.float32(1e9 if node == 4 else 1)))
    result = strategy.start(grid=grid, initial_arrays=record({"w": np.zeros(3, np.float32)}), num_rounds=3)
    assert np.allclose(values(result.arrays)["w"], 3.0)
    assert result.train_metrics_clientapp[3]["loss"] == 1.0
    assert result.evaluate_metrics_clientapp[2]["accuracy"] == 0.5
    assert [report.round for report in strategy.reports] == [1, 2, 3]


def test_mixed_dtypes_and_integer_arrays():
    sent = [
        {
            "w": np.full((2, 2), i, np.float32),
            "steps": np.array(10 * i, np.int64),
            "half": np.full(3, i, np.float16),
            "double": np.full(2, i, np.float64),
            "mask": np.array([i > 1, i > 0]),
        }
        for i in range(4)
    ]
    arrays, _ = Mean().aggregate_train(1, [reply(i, model) for i, model in enumerate(sent)])
    found = values(arrays)
    assert {name: value.dtype for name, value in found.items()} == {k: v.dtype for k, v in sent[0].items()}
    assert np.array_equal(found["w"], np.full((2, 2), 1.5))
    # Of an even number the lower middle: a value that some node really has.
    assert found["steps"] == 10
    assert found["half"].tolist() == [1.5] * 3
    assert found["mask"].tolist() == [False, True]


def test_flowers_mock_replies_are_taken():
    sent = models(5)
    for strategy in (Krum(num_malicious_nodes=1), ARC(NNM(Median(num_malicious_nodes=1)))):
        arrays, metrics = strategy.aggregate_train(1, [mock_reply(record(model)) for model in sent])
        expected = strategy.rule(np.stack([flat(model) for model in sent]))
        assert np.allclose(flat(values(arrays)), expected, atol=1e-6)
        assert metrics["robust/num-accepted"] == 5


def test_batch_normalisation_beside_rules_that_use_layers():
    rng = np.random.default_rng(8)
    sent = [
        {
            "conv": rng.standard_normal((4, 2, 3, 3)).astype(np.float32),
            "bn.weight": rng.standard_normal(4).astype(np.float32),
            "bn.running_mean": rng.standard_normal(4).astype(np.float32),
            "bn.num_batches_tracked": np.array(7, np.int64),
            "fc.weight": rng.standard_normal((3, 4)).astype(np.float32),
        }
        for _ in range(6)
    ]
    floats = {name: sent[0][name].shape for name in ("conv", "bn.weight", "fc.weight")}
    X = np.stack([np.concatenate([m[name].ravel() for name in floats]) for m in sent])
    for strategy in (LASA(), LFighter(), LFighter(output_layer="fc.weight")):
        arrays, _ = strategy.aggregate_train(1, [reply(i, model) for i, model in enumerate(sent)])
        found = values(arrays)
        expected = strategy.rule(X, layers=floats)
        assert np.allclose(np.concatenate([found[name].ravel() for name in floats]), expected, atol=1e-6)
        assert found["bn.num_batches_tracked"] == 7
        # Statistics are no updates.
        assert np.allclose(found["bn.running_mean"], np.median([m["bn.running_mean"] for m in sent], axis=0))


def test_a_model_that_the_rule_cannot_aggregate_stops_at_once():
    for strategy, model, message in (
        (Median(), np.zeros(2, np.complex64), "'w' has the dtype 'complex64'"),
        (LFighter(), np.zeros(3, np.float32), r"no 2-D layer .* the layers are w \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            strategy.configure_train(1, record({"w": model}), ConfigRecord(), silent([1, 2, 3]))


def test_nothing_trained_where_fraction_train_is_0():
    assert list(Median(fraction_train=0.0).configure_train(1, ArrayRecord(), ConfigRecord(), silent([1]))) == []


def test_no_replies_and_no_model():
    nothing = {"robust/num-accepted": 0, "robust/num-quarantined": 0, "robust/skipped": 1}
    assert Median().aggregate_train(1, []) == (None, MetricRecord(nothing))


@pytest.mark.parametrize("make", [Mean, LASA, lambda **k: ARC(NNM(TrimmedMean(num_malicious_nodes=2, **k)))])
def test_the_number_of_threads_changes_nothing_but_rounding(make):
    rng = np.random.default_rng(0)
    replies = [reply(node, {"w": rng.standard_normal((300, 401), dtype=np.float32)}) for node in range(7)]
    results = []
    for threads in (None, 1, 2, 5):
        arrays, _ = make(threads=threads).aggregate_train(1, replies)
        results.append(arrays["w"].numpy())
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------- hostile replies

CHAINS = {
    "mean": lambda: Mean(),
    "median": lambda: Median(),
    "krum": lambda: Krum(num_malicious_nodes=1),
    "arc+nnm+gm": lambda: ARC(NNM(GeometricMedian(num_malicious_nodes=1))),
    "foreign": lambda: NNM(flower.FedAvg(), num_malicious_nodes=1),
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_unusable_replies_are_quarantined_and_change_nothing(make):
    """All kinds at once, and NaN and infinity, which are found while the rule runs."""
    kinds = RECORDS | {value: (made, "'w' holds 1 value that is not finite") for value, made in NOT_FINITE.items()}
    reasons = {node: reason for node, (_, reason) in enumerate(kinds.values(), start=10)}
    bad = [reply(node, made) for node, (made, _) in enumerate(kinds.values(), start=10)]
    good = [reply(i, {**MODEL, "w": np.full((2, 3), i, np.float32), "count": np.array(4)}) for i in range(1, 5)]

    def play(replies):
        strategy = make()
        list(strategy.configure_train(1, record(MODEL), ConfigRecord(), silent([1, 2, 3, 4, *reasons])))
        strategy.aggregate_train(0, good)  # after which so many bad ones are no matter of the project
        return strategy, *strategy.aggregate_train(1, replies)

    _, expected, _ = play(good)
    strategy, arrays, metrics = play([good[0], *bad, *good[1:]])
    assert {name: array.data for name, array in arrays.items()} == {k: array.data for k, array in expected.items()}
    fates = strategy.reports[-1].nodes
    assert {node for node, fate in fates.items() if not fate.accepted} == reasons.keys()
    for node, reason in reasons.items():
        assert re.search(reason, fates[node].reason)
    assert (metrics["robust/num-accepted"], metrics["robust/num-quarantined"]) == (4, len(kinds))


def test_float64_values_beyond_float32_are_quarantined():
    strategy = TrimmedMean(num_malicious_nodes=1)
    sent = [1.0, 2.0, 3.0, 1e39, -1e308]
    arrays, metrics = strategy.aggregate_train(1, [reply(i, {"w": np.array([v])}) for i, v in enumerate(sent)])
    assert values(arrays)["w"] == 2.0
    assert metrics["robust/num-quarantined"] == 2
    assert "beyond float32" in strategy.reports[-1].nodes[3].reason


def test_a_wrong_number_of_examples_does_not_cost_the_update():
    numbers = [-1, 0, float("nan"), [1, 2], 10**30]
    replies = [reply(i, {"w": np.float32([i])}, {"num-examples": given}) for i, given in enumerate(numbers)]
    replies.append(Message(RecordDict({"arrays": record({"w": np.float32([5])})}), reply_to=ask(5)))
    arrays, metrics = Mean().aggregate_train(1, replies)
    assert values(arrays)["w"] == 2.5
    assert "num-examples" not in metrics


def test_a_users_metrics_function_that_fails_costs_the_metrics_only(caplog):
    def fails(contents, key):
        raise KeyError(key)

    strategy = Median(train_metrics_aggr_fn=fails, evaluate_metrics_aggr_fn=fails)
    replies = [reply(i, model) for i, model in enumerate(models(3))]
    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, metrics = strategy.aggregate_train(1, replies)
        assert strategy.aggregate_evaluate(1, replies) == MetricRecord()
    assert arrays is not None
    assert metrics["robust/num-accepted"] == 3
    assert "fails failed on the nodes' metrics" in caplog.text


def test_evaluation_drops_what_cannot_be_used():
    def evaluated(node, value):
        return reply(node, {}, {"num-examples": 1, "accuracy": value}, kind="evaluate")

    replies = [evaluated(*pair) for pair in ((1, 0.5), (2, 0.6), (2, 0.9), (3, float("inf")), (4, 0.7))]
    assert Median().aggregate_evaluate(1, [*replies, error(5)])["accuracy"] == pytest.approx(0.6)
    assert Median().aggregate_evaluate(1, [error(1)]) is None


# ---------------------------------------------------------------- reports and logs


def test_the_report_names_weights_norms_and_clipping():
    sent = [{"w": np.array([v, 0.0], np.float32)} for v in (1.0, 1.1, 1.2, 1.3, 90.0)]
    strategy = ARC(MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3))
    strategy.aggregate_train(4, [reply(100 + i, model) for i, model in enumerate(sent)])
    report = strategy.reports[-1]
    assert (report.round, report.n, report.f) == (4, 5, 1)
    assert report.chain == "chain(ARC(f=1), MultiKrum(f=1, m=3))"
    nodes = report.nodes
    assert sorted(nodes) == [100, 101, 102, 103, 104]
    # Clipped to 1.3 the last one is chosen with 1.2 and 1.3; what clipping has left of it is said apart.
    weights = [nodes[100 + i].weight for i in range(5)]
    assert weights == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert report.weights_exact
    assert [nodes[100 + i].norm_rank for i in range(5)] == [5, 4, 3, 2, 1]
    assert [nodes[100 + i].cosine for i in range(5)] == pytest.approx([1.0] * 5)
    assert max(nodes.values(), key=lambda node: node.distance) is nodes[104]
    assert nodes[104].norm == pytest.approx(90.0)
    assert report.threshold == pytest.approx(1.3)
    assert nodes[104].clip_factor == pytest.approx(1.3 / 90.0)
    assert nodes[100].clip_factor == 1.0


def test_rules_on_coordinates_give_weights_that_exclude_nobody():
    X = np.random.default_rng(5).standard_normal((9, 60)).astype(np.float32)
    X[0] += 100
    strategy = TrimmedMean(num_malicious_nodes=1, suspicion=0.5)
    strategy.aggregate_train(1, [reply(i, {"w": x}) for i, x in enumerate(X)])
    report = strategy.reports[-1]
    weights = {i: node.weight for i, node in report.nodes.items()}
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights[0] == 0.0
    assert min(weights[i] for i in range(1, 9)) > 0.05
    assert report.weights_exact
    # No value of the first one counted, but the rule has not judged the node.
    assert report.nodes[0].left_out == 0.0
    assert set(strategy.suspicions.values()) == {0.0}
    assert "robust/num-zero-weight" not in report.metrics()


def used(strategy, X):
    """Share of the layers in which each node's update counted."""
    replies = [reply(i, {"a": x[:2], "b": x[2:]}) for i, x in enumerate(X.astype(np.float32))]
    strategy.aggregate_train(1, replies)
    nodes = strategy.reports[-1].nodes
    return [nodes[i].used for i in range(len(X))]


def test_the_report_has_the_share_of_layers_in_which_lasa_used_each_node():
    X = np.ones((6, 4)) + np.arange(6)[:, None] * 1e-3
    X[5, :2] = 50.0  # its first layer is far too long, its second one like the others'
    strategy = LASA(sparsity=0.0, suspicion=0.5)
    assert used(strategy, X)[5] == 0.5
    assert strategy.suspicions[5] == 0.25
    X[5] = 50.0
    assert used(LASA(sparsity=0.0), X)[5] == 0.0


def test_the_report_has_which_updates_bulyan_chose():
    X = np.random.default_rng(2).standard_normal((7, 4))
    X[3] += 100
    found = used(Bulyan(num_malicious_nodes=1), X)
    assert found[3] == 0.0
    # theta = n - 2f of the rows.
    assert sorted(found) == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    # Behind mixing an update counts where a chosen row holds it: here all of them.
    assert used(NNM(Bulyan(num_malicious_nodes=1)), X).count(0.0) <= 1


def test_what_was_drawn_is_in_the_report():
    strategy = MixTailor(pool=[rules.Median()], num_malicious_nodes=1)
    _, metrics = strategy.aggregate_train(1, [reply(i, model) for i, model in enumerate(models(4))])
    assert strategy.reports[-1].drawn == ["MixTailor: Median()"]
    assert metrics["robust/rule-drawn"] == 0
    assert strategy.rule.last_drawn == "Median()"


def test_a_search_that_is_given_up_skips_the_round(monkeypatch, caplog):
    monkeypatch.setattr("flwr_robust.rules.mda.LIMIT", 2)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        replies = [reply(i, model) for i, model in enumerate(models(30))]
        arrays, metrics = MDA(num_malicious_nodes=6).aggregate_train(1, replies)
    assert arrays is None
    assert metrics["robust/skipped"] == 1
    assert "gave up its exact search" in caplog.text


def test_summary_logs_the_chain_and_warns_of_f_0(caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        ARC(TrimmedMean(num_malicious_nodes=2, min_train_nodes=9)).summary()
    text = caplog.text
    assert "Chain: chain(ARC(f=2), TrimmedMean(f=2))" in text
    assert "Least number of replies: 5" in text
    assert "Breakdown point of TrimmedMean: 1/2" in text
    # 6 * 2/5 * 7/5 + 4/5 (NNM Proposition 2, ARC Theorem 3.2).
    assert "kappa at 9 replies: 4.16" in text
    assert "tolerates no malicious node" not in text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="flwr"):
        Krum().summary()
        Median().summary()
    assert caplog.text.count("num_malicious_nodes is 0, so Krum tolerates no malicious node") == 1
    assert caplog.text.count("tolerates no malicious node") == 1


# ---------------------------------------------------------------- what is kept between rounds

STATEFUL = [
    lambda: CenteredClipping(tau=0.5),
    lambda: SparseFed(k=0.3),
    lambda: ARC(NNM(SparseFed(num_malicious_nodes=1))),
    lambda: Bucketing(CenteredClipping(num_malicious_nodes=1), s=2),
    lambda: MixTailor(num_malicious_nodes=1),
    lambda: Bucketing(flower.FedMedian(), s=2),
]


def rounds(strategy, first, last, model):
    """Run some rounds in which node 9 sends NaN in every second one, and return the model."""
    for current in range(first, last):
        rng = np.random.default_rng(current)
        list(strategy.configure_train(current, model, ConfigRecord(), silent([1, 2, 3, 4, 5, 9])))
        sent = values(model)["w"]
        replies = [reply(i, {"w": sent + rng.standard_normal(6).astype(np.float32)}) for i in range(1, 6)]
        if current % 2:
            replies.insert(0, reply(9, {"w": np.full(6, np.nan, np.float32)}))
        model, _ = strategy.aggregate_train(current, replies)
    return model


@pytest.mark.parametrize("make", STATEFUL)
def test_a_resumed_run_gives_what_an_unbroken_one_gives(make):
    unbroken, resumed = make(), make()
    middle = rounds(unbroken, 1, 5, record({"w": np.zeros(6, np.float32)}))
    saved = unbroken.state()
    end = rounds(unbroken, 5, 9, middle)
    resumed.load_state(saved)
    assert np.array_equal(values(rounds(resumed, 5, 9, middle))["w"], values(end)["w"])


def test_a_rejected_attempt_leaves_no_trace_in_the_state():
    """The rows with NaN are found while the rule runs: it then starts again from where it stood."""

    def pool():
        return [rules.SparseFed(k=0.5), rules.CenteredClipping(tau=0.5), rules.DnC(f=1, subsample=2, seed=1)]

    makes = (
        lambda: CenteredClipping(tau=0.5),
        lambda: SparseFed(k=0.5),
        lambda: DnC(subsample=2, seed=1),
        lambda: ARC(CenteredClipping(num_malicious_nodes=1)),
        lambda: MixTailor(pool=pool(), num_malicious_nodes=1, seed=1),
    )
    for make, value in product(makes, (np.inf, np.nan, 1e39)):
        disturbed, calm = make(), make()
        for current in range(4):
            good = [reply(i, {"w": np.arange(4.0) * (i + current)}) for i in range(1, 5)]
            bad = reply(9, {"w": np.array([0, 0, 0, value])})
            left, _ = disturbed.aggregate_train(current, [bad, *good])
            right, _ = calm.aggregate_train(current, good)
            assert np.array_equal(values(left)["w"], values(right)["w"])
