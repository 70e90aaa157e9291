"""`RobustFedAvg` gives what `RobustStrategy` gives on the same arrays, to the bit, hostile bytes among them."""

from __future__ import annotations

from inspect import signature
from io import BytesIO
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.common import Parameters, ndarrays_to_parameters

from flwr_robust import RobustStrategy, rules
from flwr_robust.legacy import RobustFedAvg
from tests.flower_messages import FakeGrid, record, reply, values
from tests.legacy.fakes import FakeClient, fit_res, manager
from tests.strategies import hostile
from tests.strategies.hostile import EXPLODED, SHAPES, draw_arrays

# Hostile bytes must not warn anybody either.
pytestmark = pytest.mark.filterwarnings("error")

NODES = range(11, 20)
SPECS = [name for name, stage in rules.REGISTRY.items() if issubclass(stage, rules.Rule)]
SPECS += ["arc+nnm+trimmed-mean", "arc+nnm+krum", "bucketing+geometric-median", "static-clipping+centered-clipping"]


def make_rule(spec):
    stages = [rules.REGISTRY[part] for part in spec.split("+")]
    seeded = {"seed": 1} if any("seed" in signature(stage).parameters for stage in stages) else {}
    seeded |= {"reference": NODES[2]} if "monna" in spec else {}
    clipped = {"static-clipping.max_norm": 2.0} if "static" in spec else {}
    # Bulyan tolerates one of nine.
    return rules.from_spec(spec, f=1, args=seeded | clipped)


def by_place(arrays):
    """The arrays under the names that they have in `Parameters`."""
    return {str(place): value for place, value in enumerate(arrays.values())}


def train(arrays, server_round):
    """A server's own training: the same on lists and on records."""
    if isinstance(arrays, list):
        return [0.5 * array + server_round for array in arrays]
    return {name: 0.5 * array.numpy() + server_round for name, array in arrays.items()}


class Twins:
    """A strategy of each kind, which send and receive the same."""

    def __init__(self, spec, nodes=NODES, **options):
        # The one gets and returns a list, the other a record.
        options |= {"root_fn": train} if "root" in rules.REGISTRY[spec.split("+")[-1]].requires else {}
        self.older = RobustFedAvg(make_rule(spec), **options)
        self.newer = RobustStrategy(make_rule(spec), **options)
        self.clients = {node: FakeClient(node) for node in nodes}
        self.pool = manager(self.clients.values())

    def send(self, arrays):
        model = record(by_place(arrays))
        self.older.configure_fit(1, Parameters([a.data for a in model.values()], "numpy.ndarray"), self.pool)
        list(self.newer.configure_train(1, model, ConfigRecord(), FakeGrid(list(self.clients), lambda *_: None)))

    def aggregate(self, told):
        """Aggregate records by node; return the new model's tensors, which are the same."""
        results = [
            (self.clients[node], fit_res(Parameters([a.data for a in arrays.values()], "numpy.ndarray")))
            for node, arrays in told
        ]
        parameters, metrics = self.older.aggregate_fit(1, results, [])
        arrays, expected = self.newer.aggregate_train(1, [reply(node, arrays, {}) for node, arrays in told])
        assert parameters.tensors == [array.data for array in arrays.values()]
        assert metrics == dict(expected)
        assert self.older.reports[-1].nodes.keys() == self.newer.reports[-1].nodes.keys()
        return parameters.tensors


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "nothing sent"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_rule(spec, sent):
    """Three rounds, for rules that remember, with a node that sends NaN in the second."""
    rng = np.random.default_rng(5)
    twins = Twins(spec, server_learning_rate=0.5)
    for current in range(3):
        model = draw_arrays(rng)
        if sent:
            twins.send(model)
        told = [(node, record(by_place(draw_arrays(rng, model)))) for node in NODES]
        if current == 1:
            told[3] = (
                told[3][0],
                record({k: v * np.nan if v.dtype.kind == "f" else v for k, v in values(told[3][1]).items()}),
            )
        twins.aggregate(told)
        assert twins.older.reports[-1].to_dict() == twins.newer.reports[-1].to_dict()
        assert twins.older.reports[-1].n == len(NODES) - (current == 1)


OPTIONS = {
    "momentum": {"server_momentum": 0.9, "server_learning_rate": 0.3},
    "suspicion": {"suspicion": 0.5, "exclude_after": 0.7, "num_malicious_nodes": 1},
    "one thread": {"threads": 1},
    "torch": {"device": "cpu", "server_momentum": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_and_a_resumed_run(options):
    """Four rounds of a chain that remembers, with a node that sends NaN; the last two once more from a saved state."""
    if "device" in options:
        pytest.importorskip("torch")

    def play(twins, rounds):
        made = []
        for current in rounds:
            rng = np.random.default_rng(current)
            model = draw_arrays(rng)
            twins.send(model)
            told = [(node, record(by_place(draw_arrays(rng, model)))) for node in NODES]
            nans = {k: v * np.nan if v.dtype.kind == "f" else v for k, v in values(told[3][1]).items()}
            told[3] = (told[3][0], record(nans))
            made.append(twins.aggregate(told))
        return made

    unbroken, resumed = (Twins("nnm+centered-clipping", **options) for _ in range(2))
    play(unbroken, [0, 1])
    saved = unbroken.older.state()
    assert {k: v.numpy().tolist() for k, v in saved.items()} == {
        k: v.numpy().tolist() for k, v in unbroken.newer.state().items()
    }
    rest = play(unbroken, [2, 3])
    resumed.older.load_state(saved)
    resumed.newer.load_state(saved)
    assert play(resumed, [2, 3]) == rest
    assert resumed.older.suspicions == unbroken.older.suspicions == unbroken.newer.suspicions
    assert unbroken.older.reports[-1].excluded == ([NODES[3]] if "suspicion" in options else [])
    assert type(unbroken.older.device) is type(unbroken.newer.device)
    unbroken.older.reset()
    assert all(array.numpy().size == 0 for array in unbroken.older.state().values())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_dtype(dtype):
    rng = np.random.default_rng(6)
    twins = Twins("arc+nnm+trimmed-mean")
    twins.send({"w": rng.standard_normal((3, 2)).astype(dtype)})
    told = [(node, record({"0": rng.standard_normal((3, 2)).astype(dtype)})) for node in NODES]
    (tensor,) = twins.aggregate(told)
    assert np.load(BytesIO(tensor)).dtype == dtype


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "nothing sent"])
@pytest.mark.parametrize("seed", range(10))
def test_hostile_bytes_of_every_kind(seed, sent):
    """Bytes that NumPy's own reader refuses are quarantined; nothing of what was declared beside them arrives."""
    liars = dict(zip(hostile.ARRAYS, range(100, 200), strict=False))
    twins = Twins("median", [*NODES, *liars.values()])
    rng = np.random.default_rng([seed, sent])
    model = draw_arrays(rng)
    if sent:
        twins.send(model)
    replies = {node: record(by_place(draw_arrays(rng, model))) for node in twins.clients}
    twins.aggregate(list(replies.items()))  # after which so many bad ones are no matter of the project
    for kind, node in liars.items():
        name = str(int(rng.integers(len(SHAPES))))
        value = replies[node][name].numpy()
        replies[node][name] = by_its_header(hostile.raw(value, data=hostile.ARRAYS[kind](rng, value).data))
    twins.aggregate(list(replies.items()))
    for kind, node in liars.items():
        named = ArrayRecord(dict(zip(SHAPES, replies[node].values(), strict=True)))
        usable = hostile.decoded(reply(node, named), model, sent) is not None
        fate = twins.older.reports[-1].nodes[node]
        assert fate.accepted is usable, (kind, fate)
        assert fate.accepted or fate.reason
    assert EXPLODED == []


def by_its_header(array):
    """The array as its own bytes declare it: `Parameters` say nothing else."""
    try:
        with catch_warnings():
            simplefilter("ignore")
            value = np.load(BytesIO(array.data), allow_pickle=False)
    except Exception:
        return array
    return hostile.raw(value, data=array.data)


def too_few(tensors):
    return tensors[:-1]


def too_many(tensors):
    return [*tensors, tensors[0]]


def none_at_all(tensors):
    return []


def other_way_round(tensors):
    return tensors[::-1]


def no_bytes(tensors):
    return [None, *tensors[1:]]


def no_list(tensors):
    return None


def ragged_pickle(tensors):
    ragged = np.empty(2, object)
    ragged[:] = [[1], [1, 2]]
    return [hostile.to_npy(ragged, pickle=True), *tensors[1:]]


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "nothing sent"])
@pytest.mark.parametrize("change", [too_few, too_many, none_at_all, other_way_round, no_bytes, no_list, ragged_pickle])
def test_hostile_parameters(change, sent):
    rng = np.random.default_rng(7)
    strategy, clients = RobustFedAvg(rules.Mean()), [FakeClient(node) for node in NODES]
    model = list(draw_arrays(rng).values())
    if sent:
        strategy.configure_fit(1, ndarrays_to_parameters(model), manager(clients))
    results = [(client, fit_res(list(draw_arrays(rng).values()))) for client in clients]
    expected, _ = RobustFedAvg(rules.Mean()).aggregate_fit(1, results[:2] + results[3:], [])
    bad = results[2][1].parameters
    bad.tensors = change(bad.tensors)
    parameters, metrics = strategy.aggregate_fit(1, results, [])
    assert metrics["robust/num-quarantined"] == 1
    assert not strategy.reports[-1].nodes[NODES[2]].accepted
    if not sent:
        assert parameters.tensors == expected.tensors
