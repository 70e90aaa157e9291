"""Projects that are honest and unusual always train, on Flower's loop with real messages."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from flwr_robust import (
    ARC,
    NNM,
    ConfigurationError,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    RobustStrategy,
    TrimmedMean,
    rules,
)
from tests.flower_messages import FakeGrid, record, reply, trainer, values

NODES = [11, 12, 13, 14, 15]
START = {"w": np.full(3, 5.0, np.float32), "b": np.zeros(2, np.float32)}


class NumberingGrid(FakeGrid):
    """A grid that writes ids into the messages that it sends, as Flower's do."""

    def send_and_receive(self, messages, *, timeout=None):
        outgoing = list(messages)
        for message in outgoing:
            self.sent = getattr(self, "sent", 0) + 1
            message.metadata.__dict__["_message_id"] = f"message {self.sent}"
        return super().send_and_receive(outgoing, timeout=timeout)


def run(strategy, answer, start=START, rounds=2, nodes=NODES, **options):
    result = strategy.start(
        grid=NumberingGrid(nodes, answer), initial_arrays=record(start), num_rounds=rounds, **options
    )
    return values(result.arrays), result


def content(arrays, **metrics):
    return RecordDict({"arrays": record(arrays), "metrics": MetricRecord({"num-examples": 10, **metrics})})


def step(node, message):
    return trainer(lambda _: np.float32(1))(node, message)


def trained(strategy, rounds=2):
    return [report.skipped for report in strategy.reports] == [None] * rounds


STRATEGIES = {
    "ours": lambda base: base(num_malicious_nodes=1),
    "wrapped": lambda base: ARC(NNM(base(num_malicious_nodes=1))),
}
both = pytest.mark.parametrize("wrap", STRATEGIES.values(), ids=STRATEGIES)


# ---------------------------------------------------------------- A: what was sent is what the grid sent


class OwnMessages(TrimmedMean):
    """Asks nodes without super(): other messages, record names and types."""

    def configure_train(self, server_round, arrays, config, grid):
        content = RecordDict({"model": arrays, "round": ConfigRecord({"n": server_round})})
        return [Message(content, dst_node_id=n, message_type="train.special") for n in grid.get_node_ids()]


def own_step(node, message):
    if message.metadata.message_type == "evaluate":
        return step(node, message)
    moved = {name: value + 1 for name, value in values(message.content["model"]).items()}
    return Message(RecordDict({"mine": record(moved), "m": MetricRecord({"num-examples": 1})}), reply_to=message)


@both
def test_a_subclass_may_ask_by_messages_of_its_own(wrap):
    strategy = wrap(OwnMessages)
    arrays, _ = run(strategy, own_step)
    assert trained(strategy)
    assert arrays["w"].tolist() == [7.0] * 3


class Personal(Median):
    """Sends each node another model: its own offset is added to the current one."""

    def configure_train(self, server_round, arrays, config, grid):
        made = []
        for node in grid.get_node_ids():
            own = {name: value + np.float32(node) for name, value in values(arrays).items()}
            made.append(Message(RecordDict({"arrays": record(own)}), dst_node_id=node, message_type="train"))
        return made


@both
def test_where_nodes_are_sent_different_models_updates_are_added_to_the_current_one(wrap):
    strategy = wrap(Personal)
    arrays, _ = run(strategy, step)
    assert trained(strategy)
    assert arrays["w"].tolist() == [7.0] * 3
    assert {round(fate.norm, 5) for fate in strategy.reports[-1].nodes.values()} == {round(5**0.5, 5)}


class Filtering(Median):
    """Looks at the first replies alone."""

    def aggregate_train(self, server_round, replies):
        return super().aggregate_train(server_round, list(replies)[:3])


@both
def test_nodes_whose_replies_a_subclass_leaves_out_did_reply(wrap, caplog):
    strategy = wrap(Filtering)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        run(strategy, step)
    assert trained(strategy)
    assert strategy.reports[-1].unanswered == []
    assert "No reply from" not in caplog.text


class OwnLoop(Median):
    """A `start` of its own, which asks twice a round and trains by the second answers."""

    def start(self, network, initial_arrays, rounds):
        arrays = initial_arrays
        for number in range(1, rounds + 1):
            messages = self.configure_train(number, arrays, ConfigRecord(), network)
            network.send_and_receive([Message(RecordDict(), dst_node_id=n, message_type="query") for n in NODES])
            arrays, _ = self.aggregate_train(number, network.send_and_receive(messages))
        return arrays


def test_a_start_of_its_own_is_guarded():
    def answer(node, message):
        if message.metadata.message_type == "query":
            return Message(RecordDict(), reply_to=message)
        return None if node == 15 else step(node, message)

    strategy = OwnLoop()
    arrays = strategy.start(NumberingGrid(NODES, answer), record(START), rounds=2)
    assert values(arrays)["w"].tolist() == [7.0] * 3
    assert strategy.reports[-1].unanswered == [15]
    assert strategy._guard is None


def test_a_late_reply_to_an_earlier_round_is_none_to_this_one():
    kept = {}

    def answer(node, message):
        current = step(node, message)
        if node != 15:
            return current
        kept.setdefault("first", current)
        return kept["first"]

    strategy = Median(fraction_evaluate=0.0)
    run(strategy, answer)
    assert strategy.reports[0].nodes[15].accepted
    assert "answers another message" in strategy.reports[1].nodes[15].reason


# ---------------------------------------------------------------- B: what nodes may send


def sending(make):
    """Nodes that reply with ``make(model)``."""

    def answer(node, message):
        if message.metadata.message_type == "evaluate":
            return step(node, message)
        return Message(content(make(node, values(message.content["arrays"]))), reply_to=message)

    return answer


@both
@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", ">f8", "int64"])
def test_reply_after_reply_of_another_dtype(wrap, dtype):
    strategy = wrap(TrimmedMean)
    moved = sending(lambda node, model: {name: (value + 1).astype(dtype) for name, value in model.items()})
    arrays, _ = run(strategy, moved)
    assert trained(strategy)
    assert arrays["w"].tolist() == [7.0] * 3
    assert arrays["w"].dtype == np.float32


@both
def test_a_part_of_the_arrays_aggregates_these(wrap):
    """FedBN, LoRA, personal heads: what is not sent stays with the nodes."""
    strategy = wrap(TrimmedMean)
    arrays, _ = run(strategy, sending(lambda node, model: {"w": model["w"] + 1}))
    assert trained(strategy)
    assert {name: value.tolist() for name, value in arrays.items()} == {"w": [7.0] * 3}


@both
def test_arrays_that_were_never_sent(wrap):
    strategy = wrap(Median)
    arrays, _ = run(strategy, sending(lambda node, model: {"new": np.full(2, 3, np.float32)}), start={})
    assert trained(strategy)
    assert arrays["new"].tolist() == [3, 3]


@both
def test_numbers_come_back_as_arrays_of_one(wrap):
    strategy = wrap(Median)
    reply_with = sending(lambda node, model: {"scale": np.reshape(model["scale"], 1) + np.float32(1)})
    arrays, _ = run(strategy, reply_with, start={"scale": np.float32(2)})
    assert trained(strategy)
    assert (arrays["scale"].shape, float(arrays["scale"])) == ((), 4.0)


MASK = np.where(np.tri(3, dtype=bool), 0, -np.inf).astype(np.float32)


@both
def test_masks_and_observers_that_are_not_finite_when_sent(wrap):
    """A causal mask stays what it is, and an observer that starts at infinity takes on what nodes saw."""
    start = {**START, "mask": MASK, "observer.min_val": np.float32(np.inf)}

    def move(node, model):
        seen = np.float32(min(float(model["observer.min_val"]), -node))
        return {**model, "w": model["w"] + 1, "observer.min_val": seen}

    strategy = wrap(TrimmedMean)
    arrays, _ = run(strategy, sending(move), start=start)
    assert trained(strategy)
    assert np.array_equal(arrays["mask"], MASK)
    # Once the observer is finite it is learned like the others, and long updates are clipped.
    assert np.allclose(arrays["w"], 7.0, atol=0.05)
    assert -15 <= float(arrays["observer.min_val"]) <= -11


@both
def test_nan_elsewhere_is_the_nodes_fault_and_the_reason_names_the_array(wrap):
    def move(node, model):
        moved = {**model, "w": model["w"] + 1}
        if node == 15:
            moved["w"] = np.float32([1, np.nan, np.inf])
        return moved

    strategy = wrap(TrimmedMean)
    run(strategy, sending(move), start={**START, "mask": MASK})
    assert trained(strategy)
    assert strategy.reports[0].nodes[15].reason == "array 'w' holds 2 values that are not finite"


@both
def test_a_model_of_integers_trains(wrap):
    strategy = wrap(TrimmedMean)
    quantised = {"q": np.arange(4, dtype=np.int8), "z": np.array([100], np.int64)}
    move = sending(lambda node, model: {k: (v + (node % 2) + 1).astype(v.dtype) for k, v in model.items()})
    arrays, _ = run(strategy, move, start=quantised)
    assert trained(strategy)
    assert {name: value.dtype for name, value in arrays.items()} == {"q": np.int8, "z": np.int64}
    assert 102 <= arrays["z"][0] <= 104


NORMALISED = {
    "w": np.zeros(4, np.float32),
    "bn.running_mean": np.zeros(2, np.float32),
    "bn.running_var": np.ones(2, np.float32),
    "bn.num_batches_tracked": np.array(0),
    "w_ema": np.zeros(4, np.float32),
}


@pytest.mark.parametrize("name", ["arc+nnm+trimmed-mean", "sparse-fed", "foreign"])
def test_running_statistics_stay_within_what_honest_nodes_sent(name):
    options = {"num_malicious_nodes": 1, "statistics": ["*_ema"]}
    strategy = {
        "arc+nnm+trimmed-mean": lambda: ARC(
            NNM(TrimmedMean(num_malicious_nodes=1, server_learning_rate=0.1, server_momentum=0.9)),
            statistics=["*_ema"],
        ),
        "sparse-fed": lambda: RobustStrategy(rules.SparseFed(k=0.5), **options),
        "foreign": lambda: ARC(flower.FedAdam(eta=0.5), **options),
    }[name]()

    def move(node, model):
        lie = 1e6 if node == 15 else 1.0
        return {
            "w": model["w"] + np.float32(lie * node),
            "bn.running_mean": np.full(2, lie * node, np.float32),
            "bn.running_var": np.full(2, -lie if node == 15 else node, np.float32),
            "bn.num_batches_tracked": model["bn.num_batches_tracked"] + (10**6 if node == 15 else 7),
            "w_ema": np.full(4, lie * 2, np.float32),
        }

    arrays, _ = run(strategy, sending(move), start=NORMALISED)
    assert trained(strategy)
    # One value dropped on each side of 11, 12, 13, 14 and the lie.
    assert np.allclose(arrays["bn.running_mean"], 13)
    assert np.allclose(arrays["bn.running_var"], 12)
    assert np.allclose(arrays["w_ema"], 2)
    assert arrays["bn.num_batches_tracked"] == 14
    # They are in no norm.
    assert strategy.reports[0].nodes[11].norm == pytest.approx(22.0)


def test_without_liars_statistics_are_medians_and_behind_the_mean_means():
    def move(node, model):
        return {**model, "bn.running_mean": np.full(2, node**2, np.float32)}

    squares = [node**2 for node in NODES]
    for strategy, expected in ((Median(), np.median(squares)), (Mean(), np.mean(squares))):
        arrays, _ = run(strategy, sending(move), start=NORMALISED, rounds=1)
        assert np.allclose(arrays["bn.running_mean"], expected)


# ---------------------------------------------------------------- C: more than f failing alike


def xgboost(node, model):
    return {"0": np.frombuffer(b'{"learner":{"gradient_booster":{}}}' * node, np.uint8)}


FAILURES = {
    "trees": (xgboost, "not arrays", "FedXgbBagging"),
    "shapes": (lambda node, model: {"w": np.zeros(node, np.float32)}, "layout", "same names and shapes"),
    "complex": (lambda node, model: {"w": np.zeros(3, np.complex64)}, "dtype", "floats of 16 to 64 bits"),
    "diverged": (lambda node, model: {**model, "w": model["w"] * np.nan}, "not finite", "smaller learning rate"),
}


@both
@pytest.mark.parametrize("kind", FAILURES)
def test_what_more_than_half_do_wrong_alike_ends_the_run_at_once(wrap, kind):
    make, name, advice = FAILURES[kind]
    with pytest.raises(ConfigurationError, match=f"5 of 5 replies of round 1 .*{name}.*{advice}"):
        run(wrap(TrimmedMean), sending(make))
    with pytest.raises(ValueError, match="5 of 5 replies"):
        run(ARC(flower.FedAvg(), num_malicious_nodes=1), sending(make))


def test_after_a_success_the_round_is_skipped():
    def move(node, model):
        return {name: value + (1 if value.max() < 6 else np.nan) for name, value in model.items()}

    strategy = Median()
    arrays, _ = run(strategy, sending(move))
    assert [report.skipped is None for report in strategy.reports] == [True, False]
    assert arrays["w"].tolist() == [6.0] * 3


def test_errors_of_the_nodes_never_raise_and_are_logged_once(caplog):
    def fail(node, message):
        return Message(Error(0, "No module named 'mymodel'"), reply_to=message)

    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, _ = run(Median(), fail, rounds=3)
    assert arrays["w"].tolist() == START["w"].tolist()
    # Once a round for training, and once for evaluation.
    assert len(re.findall("node 11, 12, 13, 14, 15: error reply: No module named 'mymodel'", caplog.text)) == 6
    (last,) = (line for line in caplog.records if line.levelno == logging.ERROR)
    assert "No round of this run was trained" in last.getMessage()


def test_a_run_that_trained_logs_no_error(caplog):
    with caplog.at_level(logging.ERROR, logger="flwr"):
        run(Median(), step)
    assert caplog.text == ""


@both
def test_proved_liars_do_not_stop_training(wrap):
    """Of four replies that f = 1 needs three of, two are left: the two NaN senders of f = 2 count as out."""
    strategy = wrap(lambda **_: TrimmedMean(num_malicious_nodes=2))

    def move(node, model):
        return {**model, "w": model["w"] + (np.nan if node >= 14 else 1)}

    arrays, _ = run(strategy, sending(move))
    assert trained(strategy)
    assert arrays["w"].tolist() == [7.0] * 3


def test_silence_and_errors_lower_nothing():
    def answer(node, message):
        return step(node, message) if node < 14 else Message(Error(0, "x"), reply_to=message) if node == 14 else None

    strategy = TrimmedMean(num_malicious_nodes=2)
    run(strategy, answer)
    assert "n = 3 rows with f = 2" in strategy.reports[0].skipped


# ---------------------------------------------------------------- D: what is handed on


def measuring(node, message):
    """Nodes with metrics and numbers of examples of their own."""
    if message.metadata.message_type == "evaluate":
        metrics = MetricRecord({"num-examples": node, "accuracy": node / 100})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)
    moved = {name: value + 1 for name, value in values(message.content["arrays"]).items()}
    made = content(moved, loss=float(node))
    made["metrics"]["num-examples"] = 10**6 * node
    return Message(made, reply_to=message)


class Looking:
    """A metrics function that keeps what it sees."""

    def __init__(self):
        self.seen = []

    def __call__(self, contents, key):
        self.seen.append([dict(next(iter(content.metric_records.values()))) for content in contents])
        self.made = MetricRecord({"mine": 1.0})
        return self.made


WITH_FUNCTIONS = {
    "ours": lambda **f: Median(**f),
    "wrapped": lambda **f: ARC(NNM(Median(num_malicious_nodes=1, **f))),
    "foreign": lambda **f: ARC(flower.FedAdam(**f), num_malicious_nodes=1),
    "handed on": lambda **f: RobustStrategy(rules.Median(), strategy=flower.FedAdam(**f)),
}


@pytest.mark.parametrize("make", WITH_FUNCTIONS.values(), ids=WITH_FUNCTIONS)
def test_functions_of_metrics_see_what_the_nodes_sent(make):
    train, evaluate = Looking(), Looking()
    strategy = make(train_metrics_aggr_fn=train, evaluate_metrics_aggr_fn=evaluate)
    _, result = run(strategy, measuring)
    assert trained(strategy)
    assert train.seen[0] == [{"num-examples": 10**6 * node, "loss": float(node)} for node in NODES]
    assert evaluate.seen[0] == [{"num-examples": node, "accuracy": node / 100} for node in NODES]
    # Ours are in the returned metrics, and not in the user's record.
    assert train.made == MetricRecord({"mine": 1.0})
    assert result.train_metrics_clientapp[2]["mine"] == 1.0
    assert result.train_metrics_clientapp[2]["robust/num-accepted"] == 5


def test_rules_that_select_show_the_metrics_of_the_selected():
    def move(node, message):
        made = measuring(node, message)
        if "arrays" in made.content:
            made.content["arrays"]["w"] = record({"w": np.full(3, (node - 13) ** 2, np.float32)})["w"]
        return made

    for options, expected in (({}, [12.0]), ({"metrics_of": "accepted"}, [float(n) for n in NODES])):
        train = Looking()
        run(Krum(num_malicious_nodes=1, train_metrics_aggr_fn=train, **options), move, rounds=1)
        assert [metrics["loss"] for metrics in train.seen[0]] == expected


def test_medians_say_once_that_they_are_unweighted(caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        _, result = run(Median(), measuring)
    assert result.train_metrics_clientapp[1]["loss"] == 13.0
    # Once for training, and once for evaluation.
    assert len(re.findall("Metrics are medians over the nodes, unweighted", caplog.text)) == 2


@pytest.mark.parametrize(
    "optimiser", [flower.FedAdam, flower.FedYogi, flower.FedAdagrad, flower.FedAvgM, flower.FedAvg]
)
def test_flowers_server_optimisers_work_behind_any_rule(optimiser):
    """As they do on nodes that all send what the rule makes of the true replies."""

    def answer(node, message):
        size = np.float32(1e4 if node == 15 else node / 10)
        return trainer(lambda _: size)(node, message)

    robust = RobustStrategy(rules.TrimmedMean(f=1), strategy=optimiser())
    expected, _ = run(optimiser(), lambda node, message: trainer(lambda _: np.float32(1.3))(node, message), rounds=3)
    found, _ = run(robust, answer, rounds=3)
    assert trained(robust, 3)
    for name, value in expected.items():
        assert np.allclose(found[name], value, rtol=1e-5)


def test_a_strategy_to_hand_on_to_has_flowers_options():
    inner = flower.FedAdam(fraction_train=0.5)
    assert RobustStrategy(rules.Median(), strategy=inner).fraction_train == 0.5
    with pytest.raises(ValueError, match="was given fraction_train beside strategy = FedAdam"):
        RobustStrategy(rules.Median(), strategy=inner, fraction_train=0.2)
    with pytest.raises(ValueError, match="has a rule of its own"):
        RobustStrategy(rules.Median(), strategy=Krum())
    with pytest.raises(ValueError, match="give a Flower strategy"):
        RobustStrategy(rules.Median(), strategy="FedAdam")


class Saving(TrimmedMean):
    """Has a method for later and a loop of its own, as Flower's examples do."""

    def set_path(self, path):
        self.path = path

    def start(self, grid, initial_arrays, num_rounds=3, **options):
        self.began = True
        return super().start(grid, initial_arrays, num_rounds, **options)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        self.saved = [*getattr(self, "saved", []), values(arrays)["w"].tolist()]
        return arrays, metrics


def test_wrappers_hold_what_they_wrap():
    inner = Saving(num_malicious_nodes=1)
    outer = ARC(NNM(inner))
    outer.set_path("here")
    run(outer, step)
    assert (inner.path, inner.began, outer.began) == ("here", True, True)
    assert inner.saved == [[6.0] * 3, [7.0] * 3]
    assert inner.reports[-1].chain == "chain(ARC(f=1), NNM(f=1), TrimmedMean(f=1))"
    # Alone it is what it was.
    run(inner, step)
    assert inner.reports[-1].chain == "TrimmedMean(f=1)"


class Counting(ARC):
    def aggregate_train(self, server_round, replies):
        self.rounds = getattr(self, "rounds", 0) + 1
        return super().aggregate_train(server_round, replies)


@pytest.mark.parametrize("inner", [Saving, TrimmedMean])
def test_a_wrappers_own_methods_are_called_by_the_loop_of_what_it_wraps(inner):
    outer = Counting(NNM(inner(num_malicious_nodes=1)))
    run(outer, step)
    assert outer.rounds == 2
    assert outer.reports[-1].chain == "chain(ARC(f=1), NNM(f=1), TrimmedMean(f=1))"
    assert trained(outer)


class OtherLoop(flower.FedAvg):
    """A foreign strategy with a `start` of its own."""

    def start(self, grid, initial_arrays, num_rounds=3, **options):
        self.began = True
        return super().start(grid, initial_arrays, num_rounds, **options)


def test_the_start_of_a_foreign_strategy_runs():
    inner = OtherLoop()

    def answer(node, message):
        return trainer(lambda n: np.float32(1e6 if n == 15 else 1))(node, message)

    outer = ARC(NNM(inner, num_malicious_nodes=1))
    arrays, _ = run(outer, answer)
    assert inner.began
    assert [report.chain for report in outer.reports] == ["ARC(f=1) > NNM(f=1) > OtherLoop"] * 2
    assert np.allclose(arrays["w"], 7.0)
    assert "aggregate_train" not in vars(inner)


# ---------------------------------------------------------------- E: the same replies, the same model


@pytest.mark.parametrize(
    "make", [Mean, lambda: ARC(NNM(GeometricMedian(num_malicious_nodes=2))), lambda: Krum(num_malicious_nodes=2)]
)
def test_the_order_of_arrival_changes_no_bit(make):
    rng = np.random.default_rng(0)
    replies = [reply(node, {"w": rng.standard_normal(9_000).astype(np.float32)}) for node in range(9)]
    replies[5] = reply(5, {"w": replies[4].content["arrays"]["w"].numpy()})  # a tie
    found = set()
    for _ in range(6):
        rng.shuffle(replies)
        arrays, _ = make().aggregate_train(1, replies)
        found.add(arrays["w"].data)
    assert len(found) == 1
    assert isinstance(arrays, ArrayRecord)
