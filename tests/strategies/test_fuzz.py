"""More than 10,000 rounds in which up to f nodes send what `tests.strategies.hostile` makes up.

Set FLWR_ROBUST_FUZZ_SEED for other rounds; a failure prints the seed, and the round that failed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy

from flwr_robust import ARC, LASA, NNM, GeometricMedian, Krum, Mean, Median, TrimmedMean, rules
from tests.flower_messages import FakeGrid, record, values
from tests.strategies import hostile
from tests.strategies.hostile import DTYPES, EXPLODED, FLOATS, SHAPES, Arrays, Node, Rng, decoded, draw_arrays

# Hostile bytes must not warn anybody either.
pytestmark = pytest.mark.filterwarnings("error")

SEED = int(os.environ.get("FLWR_ROBUST_FUZZ_SEED", "1706"))
HONEST, F = 5, 2
# Rounds that a strategy object lives through.
LIFE = 25
# One in so many rounds is played without a model that was sent.
UNSENT = 5


def seeded(*numbers: int) -> Rng:
    return np.random.default_rng([SEED, *numbers])


@contextmanager
def named(*names: object) -> Iterator[None]:
    """Print, for a failing round, what it takes to see it again."""
    try:
        yield
    except BaseException:
        print(f"FLWR_ROBUST_FUZZ_SEED={SEED}:", *names)
        raise


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Keep 100,000 log lines out of pytest's memory."""
    monkeypatch.setattr(logging.getLogger("flwr"), "disabled", True)


# ---------------------------------------------------------------- one round


@dataclass
class Federation:
    """A model, and nodes that were asked to train it; the first ones are honest."""

    model: Arrays
    nodes: list[Node]

    @property
    def honest(self) -> list[Node]:
        return self.nodes[:HONEST]


@dataclass
class Round:
    """What arrives in one round.

    Attributes
    ----------
    federation : Federation
        Who was asked what.
    arrived : list
        Replies, or things that came in their place, in order.
    kinds : list of str
        What the hostile nodes sent.
    """

    federation: Federation
    arrived: list[object]
    kinds: list[str]

    def usable(self, sent: bool) -> list[tuple[int, Arrays]]:
        """Return (node id, arrays) of the replies that must count, in order."""
        found, seen = [], set()
        nodes = {node.id: node for node in self.federation.nodes}
        for message in self.arrived:
            source = message.metadata.src_node_id if isinstance(message, Message) else None
            if source is None or source in seen or (sent and not _answers(message, nodes.get(source))):
                continue
            seen.add(source)
            arrays = decoded(message, self.federation.model, sent)
            if arrays is not None:
                found.append((source, arrays))
        return found


def _answers(message: Message, node: Node | None) -> bool:
    if node is None:
        return False
    told, question = message.metadata, node.asked.metadata
    return (told.reply_to_message_id, told.message_type) == (question.message_id, question.message_type)


def draw_federation(rng: Rng, configure: Callable) -> Federation:
    """Let a strategy ask, number its messages as a grid does, and train: each node takes a step from the model."""
    model = draw_arrays(rng)
    ids = [int(i) for i in rng.choice(2**62, HONEST + F, replace=False) + 2]
    asked = list(configure(1, record(model), ConfigRecord(), FakeGrid(ids, lambda *_: None)))
    for message in asked:
        message.metadata.__dict__["_message_id"] = f"{message.metadata.dst_node_id:x}"
    steps = [draw_arrays(rng, model) for _ in asked]
    return Federation(model, [Node(m.metadata.dst_node_id, m, a, record(a)) for m, a in zip(asked, steps, strict=True)])


def draw_round(rng: Rng, federation: Federation) -> Round:
    """Honest nodes reply; up to F others do anything, and some replies come twice."""
    honest = federation.honest
    arrived: list[object] = [
        node.reply(RecordDict({"arrays": node.record, "metrics": hostile.honest_metrics(0.4 + 0.01 * place)}))
        for place, node in enumerate(honest)
    ]
    rng.shuffle(arrived)
    kinds = []
    for node in federation.nodes[HONEST:]:
        for _ in range(int(rng.choice(3, p=[0.05, 0.8, 0.15]))):
            kind, message = hostile.draw(rng, node)
            kinds.append(kind)
            arrived.insert(int(rng.integers(len(arrived) + 1)), message)
    if rng.random() < 0.1:
        # Somebody repeats what an honest node sent, or takes its name for something else.
        victim = hostile.pick(rng, honest)
        kind, message = "echo", victim.reply(victim.content())
        if rng.random() < 0.5:
            kind, message = hostile.draw(rng, victim)
        kinds.append(f"second {kind}")
        arrived.append(message)
    return Round(federation, arrived, kinds)


def check_report(strategy: Strategy, played: Round, usable: list[int]) -> None:
    report = strategy.reports[-1]
    accepted = [node for node, fate in report.nodes.items() if fate.status == "accepted"]
    assert accepted == usable
    assert {node.id for node in played.federation.honest} <= set(accepted)
    assert report.skipped is None
    left_out = [fate.reason for fate in report.nodes.values() if fate.status != "accepted"]
    left_out += [reason for _, reason in report.extra]
    assert len(left_out) == len(played.arrived) - len(usable)
    assert all(left_out)
    assert max(map(len, left_out), default=0) < 500
    assert all(map(str.isprintable, left_out))
    json.dumps(report.to_dict(), allow_nan=False)


def check_metrics(metrics: MetricRecord) -> None:
    """Medians lie within what honest nodes tell, and no one else's metrics are there."""
    told = {key: value for key, value in metrics.items() if not key.startswith("robust/")}
    assert set(told) == {"loss", "parts", "steps"}
    assert 0.4 - 1e-9 <= told["loss"] <= 0.4 + 0.01 * HONEST
    assert told["steps"] == pytest.approx(7)
    assert -told["parts"][1] == pytest.approx(told["parts"][0], abs=0.01 * HONEST)
    assert 0.4 - 1e-9 <= told["parts"][0] <= 0.4 + 0.01 * HONEST
    assert all(
        isinstance(value, int) or np.isfinite(value) for value in metrics.values() if not isinstance(value, list)
    )


def stack(usable: list[tuple[int, Arrays]], model: Arrays, sent: bool, names: list[str]) -> np.ndarray:
    rows = [[np.ravel(a[name] - model[name] if sent else a[name]) for name in names] for _, a in usable]
    return np.stack([np.concatenate(row) for row in rows])


def check_model(
    arrays: ArrayRecord, expected: np.ndarray, usable: list[tuple[int, Arrays]], model: Arrays | None
) -> None:
    """Compare with the rule's vector: floats with ``model + vector``, integers with the median."""
    found = values(arrays)
    assert {name: (value.dtype, value.shape) for name, value in found.items()} == {
        name: (DTYPES[name], SHAPES[name]) for name in SHAPES
    }
    names = [name for name in found if name in FLOATS]
    got = np.concatenate([np.ravel(found[name]) for name in names]).astype(np.float64)
    start = 0.0 if model is None else np.concatenate([np.ravel(model[name]) for name in names]).astype(np.float64)
    assert np.isfinite(got).all()
    assert np.allclose(got, start + expected, rtol=1e-5, atol=1e-6 * (1 + np.abs(start).max()))
    counters = sorted(int(a["bn.num_batches_tracked"]) for _, a in usable)
    assert found["bn.num_batches_tracked"] == counters[(len(counters) - 1) // 2]


# ---------------------------------------------------------------- our strategies

OURS = {
    "mean": (lambda: Mean(), rules.Mean, 1300),
    "median": (lambda: Median(), rules.Median, 1300),
    "krum": (lambda: Krum(num_malicious_nodes=F), lambda: rules.Krum(F), 1300),
    "arc+nnm+trimmed-mean": (
        lambda: ARC(NNM(TrimmedMean(num_malicious_nodes=F))),
        lambda: rules.chain(rules.ARC(F), rules.NNM(F), rules.TrimmedMean(F)),
        1300,
    ),
    "arc+nnm+geometric-median": (
        lambda: ARC(NNM(GeometricMedian(num_malicious_nodes=F))),
        lambda: rules.chain(rules.ARC(F), rules.NNM(F), rules.GeometricMedian()),
        800,
    ),
    "lasa": (lambda: LASA(), rules.LASA, 1300),
}
FOREIGN_ROUNDS, EVALUATIONS = 300, 1500


def test_there_are_enough_rounds():
    ours = sum(rounds + rounds // UNSENT for *_, rounds in OURS.values())
    assert ours + len(FOREIGN) * FOREIGN_ROUNDS + sum(rounds for _, rounds in EVALUATED.values()) >= 10_000


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "nothing sent"])
@pytest.mark.parametrize("name", OURS)
def test_rounds_of_our_strategies(name, sent):
    make, make_rule, rounds = OURS[name]
    place = [*OURS].index(name)
    print(f"FLWR_ROBUST_FUZZ_SEED={SEED}")
    for number in range(rounds if sent else rounds // UNSENT):
        if number % LIFE == 0:
            strategy, rule = make(), make_rule()
            configure = strategy.configure_train if sent else Mean().configure_train
            federation = draw_federation(seeded(place, number), configure)
            model = federation.model
        played = draw_round(seeded(place, number, sent), federation)
        with named(name, "round", number, played.kinds):
            usable = played.usable(sent)
            arrays, metrics = strategy.aggregate_train(number, played.arrived)
            check_report(strategy, played, [node for node, _ in usable])
            names = [name for name in arrays if name in FLOATS]
            expected = rule(stack(usable, model, sent, names), layers=[(name, SHAPES[name]) for name in names])
            check_model(arrays, expected, usable, model if sent else None)
            check_metrics(metrics)
    assert EXPLODED == []


# ---------------------------------------------------------------- wrappers around foreign strategies


class Spy(FedAvg):
    """A foreign strategy that notes what it sees."""

    def __init__(self, inner: Strategy) -> None:
        super().__init__()
        self.inner, self.seen = inner, []

    def aggregate_train(self, server_round, replies):
        self.seen = list(replies)
        return self.inner.aggregate_train(server_round, self.seen)

    def configure_train(self, server_round, arrays, config, grid):
        return self.inner.configure_train(server_round, arrays, config, grid)


FOREIGN = {
    "nnm+fedavg": (FedAvg, NNM, lambda: rules.NNM(F)),
    "arc+fedadam": (FedAdam, ARC, lambda: rules.ARC(F)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_rounds_of_foreign_strategies(name):
    """The foreign strategy sees the rewritten replies of the usable nodes, and its own result comes back."""
    make, wrap, make_stage = FOREIGN[name]
    print(f"FLWR_ROBUST_FUZZ_SEED={SEED}")
    for number in range(FOREIGN_ROUNDS):
        if number % LIFE == 0:
            spy, twin, stage = Spy(make()), make(), make_stage()
            strategy = wrap(spy, num_malicious_nodes=F)
            federation = draw_federation(seeded(50 + len(name), number), strategy.configure_train)
            model = federation.model
            twin.configure_train(1, record(model), ConfigRecord(), FakeGrid([1, 2], lambda *_: None))
        played = draw_round(seeded(50 + len(name), number), federation)
        with named(name, "round", number, played.kinds):
            usable = played.usable(True)
            arrays, metrics = strategy.aggregate_train(number, played.arrived)
            check_report(strategy, played, [node for node, _ in usable])
            check_metrics(metrics)
            expected = rewritten(stage(stack(usable, model, True, FLOATS)), usable, model)
            assert [message.metadata.src_node_id for message in spy.seen] == [node for node, _ in usable]
            for message, own in zip(spy.seen, expected, strict=True):
                check_rewritten(message, own)
            told = [reply_of(own, message) for own, message in zip(expected, spy.seen, strict=True)]
            theirs, _ = twin.aggregate_train(number, told)
            vector = np.concatenate([np.ravel(values(theirs)[name]) for name in FLOATS])
            check_model(arrays, vector, usable, None)
    assert EXPLODED == []


def rewritten(rows: np.ndarray, usable: list[tuple[int, Arrays]], model: Arrays) -> list[Arrays]:
    """What the foreign strategy should see: models with mixed floats and everybody's median of integers."""
    counters = sorted(int(a["bn.num_batches_tracked"]) for _, a in usable)
    made = []
    for row in rows:
        ends = np.cumsum([model[name].size for name in FLOATS])
        parts = dict(zip(FLOATS, np.split(row, ends[:-1]), strict=True))
        floats = {name: (model[name] + part.reshape(SHAPES[name])).astype(np.float32) for name, part in parts.items()}
        middle = np.array(counters[(len(counters) - 1) // 2], np.int64)
        made.append({name: floats.get(name, middle) for name in SHAPES})
    return made


def reply_of(arrays: Arrays, like: Message) -> Message:
    content = RecordDict({"arrays": record(arrays), "metrics": MetricRecord({"num-examples": 1})})
    return Message(metadata=like.metadata, content=content)


def check_rewritten(message: Message, own: Arrays) -> None:
    (arrays,), (metrics,) = message.content.array_records.values(), message.content.metric_records.values()
    found = values(arrays)
    assert list(found) == list(SHAPES)
    for name, value in found.items():
        assert (value.dtype, value.shape) == (DTYPES[name], SHAPES[name])
        assert np.allclose(value, own[name], rtol=1e-5, atol=1e-5)
    assert metrics["num-examples"] == 1
    check_metrics(MetricRecord({key: value for key, value in metrics.items() if key != "num-examples"}))


# ---------------------------------------------------------------- evaluation

EVALUATED = {
    "median": (lambda: Median(), EVALUATIONS),
    "arc+fedavg": (lambda: ARC(FedAvg(), num_malicious_nodes=F), EVALUATIONS // 3),
}


@pytest.mark.parametrize("name", EVALUATED)
def test_evaluations(name):
    make, rounds = EVALUATED[name]
    print(f"FLWR_ROBUST_FUZZ_SEED={SEED}")
    for number in range(rounds):
        if number % LIFE == 0:
            strategy = make()
            federation = draw_federation(seeded(90, number), strategy.configure_evaluate)
        played = draw_round(seeded(90 + len(name), number), federation)
        with named(name, "evaluation", number, played.kinds):
            check_metrics(strategy.aggregate_evaluate(number, played.arrived))
    assert EXPLODED == []
