"""RobustStrategy on real Flower messages."""

from __future__ import annotations

import json
import logging
from itertools import product

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

import flwr_robust
from flwr_robust import (
    ARC,
    LASA,
    MDA,
    NNM,
    Bucketing,
    CenteredClipping,
    DnC,
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
from tests.flower_messages import FakeGrid, error, flat, mock_reply, models, record, reply, trainer, values


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_kept(dtype):
    sent = models(5, dtype=dtype)
    arrays, _ = Median().aggregate_train(1, [reply(i, model) for i, model in enumerate(sent)])
    for name, value in values(arrays).items():
        assert value.dtype == dtype
        assert np.allclose(value, np.median([model[name] for model in sent], axis=0), atol=1e-3)


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
    for strategy in (Krum(num_malicious_nodes=1), flwr_robust.ARC(flwr_robust.NNM(Median(num_malicious_nodes=1)))):
        arrays, metrics = strategy.aggregate_train(1, [mock_reply(record(model)) for model in sent])
        expected = strategy.rule(np.stack([flat(model) for model in sent]))
        assert np.allclose(flat(values(arrays)), expected, atol=1e-6)
        assert metrics["robust/num-accepted"] == 5


def test_the_report_names_weights_norms_and_clipping():
    sent = [{"w": np.array([v, 0.0], np.float32)} for v in (1.0, 1.1, 1.2, 1.3, 90.0)]
    strategy = flwr_robust.ARC(MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3))
    strategy.aggregate_train(4, [reply(100 + i, model) for i, model in enumerate(sent)])
    report = strategy.reports[-1]
    assert (report.round, report.n, report.f) == (4, 5, 1)
    assert report.chain == "chain(ARC(f=1), MultiKrum(f=1, m=3))"
    nodes = report.nodes
    assert sorted(nodes) == [100, 101, 102, 103, 104]
    # Clipped to 1.3 the last one is chosen with 1.2 and 1.3, at what clipping has left of its third.
    weights = [nodes[100 + i].weight for i in range(5)]
    assert weights == pytest.approx([0, 0, 1 / 3, 1 / 3, 1.3 / 90 / 3])
    assert nodes[104].norm == pytest.approx(90.0)
    assert report.threshold == pytest.approx(1.3)
    assert nodes[104].clip_factor == pytest.approx(1.3 / 90.0)
    assert nodes[100].clip_factor == 1.0


def test_the_report_is_one_json_line_a_round(tmp_path):
    path = tmp_path / "deep" / "report.jsonl"
    strategy = Krum(num_malicious_nodes=1, report_path=path)
    for current in (1, 2):
        replies = [reply(i, model) for i, model in enumerate(models(4))]
        strategy.aggregate_train(current, [*replies, error(9)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert lines[0]["nodes"]["9"] == {
        "status": "quarantined",
        "reason": "error reply: out of memory",
        "weight": None,
        "norm": None,
        "clip_factor": None,
        "used": None,
    }


def test_too_few_replies_leave_the_model_alone(caplog):
    start = record({"w": np.ones(2, np.float32)})
    strategy = Krum(num_malicious_nodes=2)
    strategy.configure_train(1, start, ConfigRecord(), FakeGrid([1, 2, 3, 4], lambda *_: None))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, metrics = strategy.aggregate_train(1, [reply(i, {"w": np.zeros(2, np.float32)}) for i in (1, 2)])
    assert arrays is start
    assert metrics["robust/skipped"] == 1
    assert "n = 2 rows with f = 2, but it needs n > 2f, so at least 5 rows" in strategy.reports[-1].skipped
    assert "the global model stays" in caplog.text
    arrays, _ = strategy.aggregate_train(2, [])
    assert arrays is start


def test_no_replies_and_no_model():
    nothing = {"robust/num-accepted": 0, "robust/num-quarantined": 0, "robust/skipped": 1}
    assert Median().aggregate_train(1, []) == (None, MetricRecord(nothing))


def test_a_model_stays_within_the_range_of_its_dtype():
    big = float(np.finfo(np.float32).max)
    start = record({"w": np.full(2, big, np.float32)})
    strategy = Mean(server_learning_rate=10.0)
    strategy.configure_train(1, start, ConfigRecord(), FakeGrid([1, 2], lambda *_: None))
    arrays, _ = strategy.aggregate_train(1, [reply(i, {"w": np.full(2, -big / 2, np.float32)}) for i in (1, 2)])
    assert np.isfinite(values(arrays)["w"]).all()


def test_metrics_of_lying_nodes_do_not_move_the_median():
    model = {"w": np.zeros(2, np.float32)}
    told = [
        {"num-examples": 1, "loss": 1.0, "parts": [1.0, 2.0]},
        {"num-examples": -5, "loss": 2.0, "parts": [3.0, 4.0]},
        {"num-examples": 10**18, "loss": 3.0, "parts": [5.0, 6.0], "extra": 1.0},
        {"num-examples": float("nan"), "loss": float("nan"), "parts": [1.0]},
        {"loss": [1e300], "parts": 7.0},
    ]
    arrays, metrics = Mean().aggregate_train(1, [reply(i, model, t) for i, t in enumerate(told)])
    assert np.array_equal(values(arrays)["w"], [0.0, 0.0])
    assert metrics["loss"] == 2.0
    assert metrics["parts"] == [3.0, 4.0]
    assert "extra" not in metrics
    assert "num-examples" not in metrics


def test_the_median_of_huge_metrics_is_a_number():
    _, metrics = Mean().aggregate_train(1, [reply(i, {"w": np.zeros(1)}, {"loss": 1.6e308}) for i in range(2)])
    assert metrics["loss"] == 1.6e308


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
    def told(node, value):
        return reply(node, {}, {"num-examples": 1, "accuracy": value}, kind="evaluate")

    strategy = Median()
    replies = [told(1, 0.5), told(2, 0.6), told(2, 0.9), told(3, float("inf")), told(4, 0.7), error(5)]
    assert strategy.aggregate_evaluate(1, replies)["accuracy"] == pytest.approx(0.6)
    assert strategy.aggregate_evaluate(1, [error(1)]) is None


def test_summary_tells_the_chain_and_warns_of_f_0(caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        flwr_robust.ARC(TrimmedMean(num_malicious_nodes=2, min_train_nodes=9)).summary()
    text = caplog.text
    assert "Chain: chain(ARC(f=2), TrimmedMean(f=2))" in text
    assert "Least number of replies: 5" in text
    # 6 * 2/5 * 7/5 + 4/5 (NNM Proposition 2, ARC Theorem 3.2).
    assert "kappa at 9 replies: 4.16" in text
    assert "tolerates no malicious node" not in text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="flwr"):
        Krum().summary()
        Median().summary()
    assert caplog.text.count("num_malicious_nodes is 0, so Krum tolerates no malicious node") == 1
    assert caplog.text.count("tolerates no malicious node") == 1


def test_a_model_that_cannot_be_aggregated_stops_at_once():
    grid = FakeGrid([1, 2], lambda *_: None)
    with pytest.raises(ValueError, match="'w' has the dtype 'complex64'"):
        Median().configure_train(1, record({"w": np.zeros(2, np.complex64)}), ConfigRecord(), grid)


def test_nothing_trained_where_fraction_train_is_0():
    strategy = Median(fraction_train=0.0)
    assert list(strategy.configure_train(1, ArrayRecord(), ConfigRecord(), FakeGrid([1], lambda *_: None))) == []
    assert isinstance(strategy, Strategy)


def test_batch_normalisation_beside_rules_that_look_at_layers():
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
    floats = {name: value.shape for name, value in sent[0].items() if value.dtype == np.float32}
    X = np.stack([np.concatenate([m[name].ravel() for name in floats]) for m in sent])
    for strategy in (LASA(), LFighter(), LFighter(output_layer="fc.weight")):
        arrays, _ = strategy.aggregate_train(1, [reply(i, model) for i, model in enumerate(sent)])
        found = values(arrays)
        expected = strategy.rule(X, layers=floats)
        assert np.allclose(np.concatenate([found[name].ravel() for name in floats]), expected, atol=1e-6)
        assert found["bn.num_batches_tracked"] == 7


def test_a_model_without_the_layer_that_a_rule_needs_stops_at_once():
    grid = FakeGrid([1, 2, 3], lambda *_: None)
    with pytest.raises(ValueError, match=r"no 2-D layer .* the layers are w \(3,\)"):
        LFighter().configure_train(1, record({"w": np.zeros(3, np.float32)}), ConfigRecord(), grid)


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
        grid = FakeGrid([1, 2, 3, 4, 5, 9], lambda *_: None)
        list(strategy.configure_train(current, model, ConfigRecord(), grid))
        sent = values(model)["w"]
        replies = [reply(i, {"w": sent + rng.standard_normal(6).astype(np.float32)}) for i in range(1, 6)]
        if current % 2:
            replies.insert(0, reply(9, {"w": np.full(6, np.nan, np.float32)}))
        model, _ = strategy.aggregate_train(current, replies)
    return model


@pytest.mark.parametrize("make", STATEFUL)
def test_a_resumed_run_gives_what_an_unbroken_one_gives(make):
    start = record({"w": np.zeros(6, np.float32)})
    unbroken = make()
    middle = rounds(unbroken, 1, 5, start)
    saved = unbroken.state()
    end = rounds(unbroken, 5, 9, middle)
    resumed = make()
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


def test_what_was_drawn_is_in_the_report():
    strategy = MixTailor(pool=[rules.Median()], num_malicious_nodes=1)
    _, metrics = strategy.aggregate_train(1, [reply(i, model) for i, model in enumerate(models(4))])
    assert strategy.reports[-1].drawn == ["MixTailor: Median()"]
    assert metrics["robust/rule-drawn"] == 0
    assert strategy.rule.last_drawn == "Median()"


def test_a_search_without_end_skips_the_round(monkeypatch, caplog):
    monkeypatch.setattr("flwr_robust.rules.mda.LIMIT", 2)
    strategy = MDA(num_malicious_nodes=6)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, metrics = strategy.aggregate_train(1, [reply(i, model) for i, model in enumerate(models(30))])
    assert arrays is None
    assert metrics["robust/skipped"] == 1
    assert "gave up its exact search" in caplog.text


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
