"""More than 10,000 hostile replies, of up to f nodes a round: `tests.strategies.hostile` makes them up.

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
from flwr_robust.messages.replies import median_metrics
from tests.flower_messages import FakeGrid, record, values
from tests.strategies import hostile
from tests.strategies.hostile import DTYPES, EXPLODED, FLOATS, SHAPES, Arrays, Node, Rng, decoded, draw_arrays

# Hostile bytes must not warn anybody either.
pytestmark = pytest.mark.filterwarnings("error")

SEED = int(os.environ.get("FLWR_ROBUST_FUZZ_SEED", "1706"))
HONEST, F = 5, 2
# How many replies a hostile node sends in a round, and how likely.
REPLIES = {0: 0.05, 1: 0.8, 2: 0.15}
# Rounds that a strategy object lives through.
LIFE = 25
# For each round without a model that was sent, there are this many with one.
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
    """A model, and nodes that were asked to train it; the first ones are honest.

    Attributes
    ----------
    truth : list of Message
        What the honest nodes reply, in each round the very same: nobody may change a reply.
    """

    model: Arrays
    nodes: list[Node]
    truth: list[Message]

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
        """Return (node id, arrays) of the replies that must count, by node id."""
        found, seen = [], set()
        nodes = {node.id: node for node in self.federation.nodes}
        known = {id(message): node.arrays for message, node in zip(self.federation.truth, nodes.values(), strict=False)}
        for message in self.arrived:
            source = message.metadata.src_node_id if isinstance(message, Message) else None
            if source is None or source in seen or (sent and not _answers(message, nodes.get(source))):
                continue
            seen.add(source)
            arrays = known.get(id(message)) or decoded(message, self.federation.model, sent)
            if arrays is not None:
                found.append((source, arrays))
        return sorted(found, key=lambda pair: pair[0])


def _answers(message: Message, node: Node | None) -> bool:
    if node is None:
        return False
    own, instruction = message.metadata, node.asked.metadata
    return (own.reply_to_message_id, own.message_type) == (instruction.message_id, instruction.message_type)


def draw_federation(rng: Rng, configure: Callable) -> Federation:
    """Let a strategy ask, number its messages as a grid does, and train: each node takes a step from the model."""
    model = draw_arrays(rng)
    ids = [int(i) for i in rng.choice(2**62, HONEST + F, replace=False) + 2]
    asked = list(configure(1, record(model), ConfigRecord(), FakeGrid(ids, lambda *_: None)))
    for message in asked:
        message.metadata.__dict__["_message_id"] = f"{message.metadata.dst_node_id:x}"
    steps = [draw_arrays(rng, model) for _ in asked]
    nodes = [Node(m.metadata.dst_node_id, m, a, record(a)) for m, a in zip(asked, steps, strict=True)]
    truth = [
        node.reply(RecordDict({"arrays": node.record, "metrics": hostile.honest_metrics(0.4 + 0.01 * place)}))
        for place, node in enumerate(nodes[:HONEST])
    ]
    return Federation(model, nodes, truth)


def draw_round(rng: Rng, federation: Federation) -> Round:
    """Honest nodes reply; up to F others do anything, and some replies come twice."""
    arrived: list[object] = list(federation.truth)
    rng.shuffle(arrived)
    kinds = []
    for node in federation.nodes[HONEST:]:
        for _ in range(int(rng.choice(list(REPLIES), p=list(REPLIES.values())))):
            kind, message = hostile.draw(rng, node)
            kinds.append(kind)
            arrived.insert(int(rng.integers(len(arrived) + 1)), message)
    if rng.random() < 0.1:
        # Somebody repeats what an honest node sent, or takes its name for something else.
        victim = hostile.pick(rng, federation.honest)
        kind, message = "echo", victim.reply(victim.content())
        if rng.random() < 0.5:
            kind, message = hostile.draw(rng, victim)
        kinds.append(f"second {kind}")
        arrived.append(message)
    return Round(federation, arrived, kinds)


def require_report(strategy: Strategy, played: Round, usable: list[int]) -> None:
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


def require_metrics(metrics: MetricRecord) -> None:
    """Medians lie within what honest nodes report, and no one else's metrics are there."""
    reported = {key: value for key, value in metrics.items() if not key.startswith("robust/")}
    assert set(reported) == {"loss", "parts", "steps"}
    assert 0.4 - 1e-9 <= reported["loss"] <= 0.4 + 0.01 * HONEST
    assert abs(reported["steps"] - 7) < 1e-6
    assert abs(reported["parts"][0] + reported["parts"][1]) <= 0.01 * HONEST
    assert 0.4 - 1e-9 <= reported["parts"][0] <= 0.4 + 0.01 * HONEST
    assert all(
        isinstance(value, int) or np.isfinite(value) for value in metrics.values() if not isinstance(value, list)
    )


def stack(usable: list[tuple[int, Arrays]], model: Arrays, sent: bool, names: list[str]) -> np.ndarray:
    rows = [[np.ravel(a[name] - model[name] if sent else a[name]) for name in names] for _, a in usable]
    return np.stack([np.concatenate(row) for row in rows])


def require_model(
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
    "mean": (lambda: Mean(), rules.Mean),
    "median": (lambda: Median(), rules.Median),
    "krum": (lambda: Krum(num_malicious_nodes=F), lambda: rules.Krum(F)),
    "arc+nnm+trimmed-mean": (
        lambda: ARC(NNM(TrimmedMean(num_malicious_nodes=F))),
        lambda: rules.chain(rules.ARC(F), rules.NNM(F), rules.TrimmedMean(F)),
    ),
    "arc+nnm+geometric-median": (
        lambda: ARC(NNM(GeometricMedian(num_malicious_nodes=F))),
        lambda: rules.chain(rules.ARC(F), rules.NNM(F), rules.GeometricMedian()),
    ),
    "lasa": (lambda: LASA(), rules.LASA),
}
ROUNDS, FOREIGN_ROUNDS, EVALUATIONS = 425, 150, 600


def test_there_are_enough_hostile_replies():
    rounds = len(OURS) * (ROUNDS + ROUNDS // UNSENT) + len(FOREIGN) * FOREIGN_ROUNDS + len(EVALUATED) * EVALUATIONS
    assert rounds * F * sum(count * chance for count, chance in REPLIES.items()) >= 10_000


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "nothing sent"])
@pytest.mark.parametrize("name", OURS)
def test_rounds_of_our_strategies(name, sent):
    make, make_rule = OURS[name]
    place = [*OURS].index(name)
    print(f"FLWR_ROBUST_FUZZ_SEED={SEED}")
    for number in range(ROUNDS if sent else ROUNDS // UNSENT):
        if number % LIFE == 0:
            strategy, rule = make(), make_rule()
            configure = strategy.configure_train if sent else Mean().configure_train
            federation = draw_federation(seeded(place, number), configure)
            model = federation.model
        played = draw_round(seeded(place, number, sent), federation)
        with named(name, "round", number, played.kinds):
            usable = played.usable(sent)
            arrays, metrics = strategy.aggregate_train(number, played.arrived)
            require_report(strategy, played, [node for node, _ in usable])
            names = [name for name in arrays if name in FLOATS]
            expected = rule(stack(usable, model, sent, names), layers=[(name, SHAPES[name]) for name in names])
            require_model(arrays, expected, usable, model if sent else None)
            require_metrics(metrics)
    assert EXPLODED == []


# ---------------------------------------------------------------- wrappers around foreign strategies


class Spy(FedAvg):
    """A foreign strategy that keeps what it sees, and the model that it makes of it."""

    def __init__(self, inner: Strategy) -> None:
        super().__init__()
        self.inner = inner

    def aggregate_train(self, server_round, replies):
        self.seen = list(replies)
        self.made, metrics = self.inner.aggregate_train(server_round, self.seen)
        return self.made, metrics

    def configure_train(self, server_round, arrays, config, grid):
        return self.inner.configure_train(server_round, arrays, config, grid)


# Flower's own function of metrics would take their mean, weighted by what the nodes say.
MEDIANS = {"train_metrics_aggr_fn": median_metrics, "evaluate_metrics_aggr_fn": median_metrics}
FOREIGN = {
    "nnm+fedavg": (lambda: FedAvg(**MEDIANS), NNM, lambda: rules.NNM(F)),
    "arc+fedadam": (lambda: FedAdam(**MEDIANS), ARC, lambda: rules.ARC(F)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_rounds_of_foreign_strategies(name):
    """The foreign strategy sees the rewritten replies of the usable nodes, and its own result comes back."""
    make, wrap, make_stage = FOREIGN[name]
    print(f"FLWR_ROBUST_FUZZ_SEED={SEED}")
    for number in range(FOREIGN_ROUNDS):
        if number % LIFE == 0:
            spy, stage = Spy(make()), make_stage()
            strategy = wrap(spy, num_malicious_nodes=F)
            federation = draw_federation(seeded(50 + len(name), number), strategy.configure_train)
            model = federation.model
        played = draw_round(seeded(50 + len(name), number), federation)
        with named(name, "round", number, played.kinds):
            usable = played.usable(True)
            arrays, metrics = strategy.aggregate_train(number, played.arrived)
            require_report(strategy, played, [node for node, _ in usable])
            require_metrics(metrics)
            expected = rewritten(stage(stack(usable, model, True, FLOATS)), usable, model)
            assert [message.metadata.src_node_id for message in spy.seen] == [node for node, _ in usable]
            for message, own in zip(spy.seen, expected, strict=True):
                require_rewritten(message, own)
            theirs = values(spy.made)
            require_model(arrays, np.concatenate([np.ravel(theirs[name]) for name in FLOATS]), usable, None)
    assert EXPLODED == []


def rewritten(rows: np.ndarray, usable: list[tuple[int, Arrays]], model: Arrays) -> list[Arrays]:
    """What the foreign strategy should see: models with mixed floats and all nodes' median of integers."""
    counters = sorted(int(a["bn.num_batches_tracked"]) for _, a in usable)
    made = []
    for row in rows:
        ends = np.cumsum([model[name].size for name in FLOATS])
        parts = dict(zip(FLOATS, np.split(row, ends[:-1]), strict=True))
        floats = {name: (model[name] + part.reshape(SHAPES[name])).astype(np.float32) for name, part in parts.items()}
        middle = np.array(counters[(len(counters) - 1) // 2], np.int64)
        made.append({name: floats.get(name, middle) for name in SHAPES})
    return made


def require_rewritten(message: Message, own: Arrays) -> None:
    (arrays,), (metrics,) = message.content.array_records.values(), message.content.metric_records.values()
    found = values(arrays)
    assert list(found) == list(SHAPES)
    for name, value in found.items():
        assert (value.dtype, value.shape) == (DTYPES[name], SHAPES[name])
        assert np.allclose(value, own[name], rtol=1e-5, atol=1e-5)
    assert metrics.pop("num-examples") == 1
    # Its own, or the median of the others': what Flower's strategies can work with.
    assert set(metrics) == {"loss", "parts", "steps"}
    assert np.isfinite([metrics["loss"], metrics["steps"], *metrics["parts"]]).all()
    assert len(metrics["parts"]) == 2


# ---------------------------------------------------------------- evaluation

EVALUATED = {"median": lambda: Median(), "arc+fedavg": lambda: ARC(FedAvg(**MEDIANS), num_malicious_nodes=F)}


@pytest.mark.parametrize("name", EVALUATED)
def test_evaluations(name):
    print(f"FLWR_ROBUST_FUZZ_SEED={SEED}")
    for number in range(EVALUATIONS):
        if number % LIFE == 0:
            strategy = EVALUATED[name]()
            federation = draw_federation(seeded(90, number), strategy.configure_evaluate)
        played = draw_round(seeded(90 + len(name), number), federation)
        with named(name, "evaluation", number, played.kinds):
            require_metrics(strategy.aggregate_evaluate(number, played.arrived))
    assert EXPLODED == []
