"""What strategies tell their rules: node ids, the model, the server's own update; with nodes that come and go."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.common import Parameters, ndarrays_to_parameters, parameters_to_ndarrays

import flwr_robust
from flwr_robust import NNM, CrossRound, FLTrust, FoolsGold, MixTailor, MoNNA, RobustStrategy, rules
from flwr_robust.legacy import RobustFedAvg
from tests.flower_messages import FakeGrid, flat, models, record, reply, values
from tests.legacy.fakes import FakeClient, fit_res, manager

# Ids as Flower draws them, larger than any row number, and who is there in each round.
NODES = [2**63 + 5, 17, 2**40, 99, 7]
ROUNDS = [NODES, NODES[:4], NODES[1:], [NODES[0], NODES[4], NODES[2]], NODES]
TOLD = [
    rules.CRFL(seed=1),
    rules.CrossRound(),
    rules.FLANDERS(f=1, window=2, subsample=20, seed=1),
    rules.FLAME(seed=1),
    rules.FLDetector(window=2, seed=1),
    rules.FoolsGold(),
    rules.FLTrust(),
    rules.MoNNA(f=1, reference=NODES[2]),
    rules.NNA(f=1),
]


def rounds():
    """The model that is sent, and what each node that is there replies, in each round."""
    for number, nodes in enumerate(ROUNDS):
        drawn = models(len(nodes) + 1, seed=number)
        yield number + 1, drawn[0], dict(zip(nodes, drawn[1:], strict=True))


def train(arrays, server_round):
    """A server's own training: on a list or on a record."""
    if isinstance(arrays, list):
        return [np.float32(0.5) * array + server_round for array in arrays]
    # Numbered, as Flower does with lists.
    return ArrayRecord([np.asarray(np.float32(0.5) * array.numpy() + server_round) for array in arrays.values()])


def expected(rule, sent, replies, number):
    """What the rule makes of the rows by itself."""
    base = flat(sent)
    X = np.stack([flat(model) - base for model in replies.values()])
    root = np.float32(0.5) * base + number - base
    return base + rule(X, ids=list(replies), root=root, model=base)


def aggregate(strategy, number, sent, replies):
    grid = FakeGrid(list(replies), lambda *_: None)
    list(strategy.configure_train(number, record(sent), ConfigRecord(), grid))
    arrays, _ = strategy.aggregate_train(number, [reply(node, model) for node, model in replies.items()])
    return flat(values(arrays))


@pytest.mark.parametrize("rule", TOLD, ids=lambda rule: type(rule).__name__)
def test_rules_are_told_what_they_read(rule):
    twin = rules.chain(rules.StaticClipping(1e9), eval(repr(rule), vars(rules)))
    strategy = RobustStrategy(rule, root_fn=train, min_available_nodes=3)
    for number, sent, replies in rounds():
        found = aggregate(strategy, number, sent, replies)
        assert strategy.reports[-1].skipped is None
        np.testing.assert_allclose(found, expected(twin, sent, replies, number), atol=2e-5)
    assert strategy.state().keys() == rule.state().keys()


@pytest.mark.parametrize("rule", TOLD, ids=lambda rule: type(rule).__name__)
def test_the_older_interface_tells_them_the_same(rule):
    rule.reset()
    twin, strategy = eval(repr(rule), vars(rules)), RobustFedAvg(rule, root_fn=train)
    for number, sent, replies in rounds():
        clients = {node: FakeClient(node) for node in replies}
        strategy.configure_fit(number, ndarrays_to_parameters(list(sent.values())), manager(clients.values()))
        results = [(clients[node], fit_res(list(model.values()))) for node, model in replies.items()]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        assert isinstance(parameters, Parameters)
        found = np.concatenate([np.ravel(array) for array in parameters_to_ndarrays(parameters)])
        np.testing.assert_allclose(found, expected(twin, sent, replies, number), atol=2e-5)


def test_a_resumed_run_gives_what_an_unbroken_one_gives():
    for make in (CrossRound, FoolsGold, lambda: flwr_robust.FLDetector(window=2, seed=1)):
        unbroken, resumed = make(), make()
        played = list(rounds())
        for number, sent, replies in played[:3]:
            aggregate(unbroken, number, sent, replies)
        resumed.load_state(unbroken.state())
        for number, sent, replies in played[3:]:
            found, other = (aggregate(strategy, number, sent, replies) for strategy in (resumed, unbroken))
            np.testing.assert_array_equal(found, other)


def test_the_root_is_made_once_a_round_from_a_model_that_it_may_change():
    calls = []

    def root_fn(arrays, server_round):
        calls.append((server_round, list(arrays)))
        arrays.clear()
        return [value + 1 for value in sent.values()]

    strategy = FLTrust(root_fn=root_fn, num_malicious_nodes=1)
    number, sent, replies = next(rounds())
    bad = {name: value * np.nan for name, value in sent.items()}
    found = aggregate(strategy, number, sent, replies | {NODES[0]: bad})
    assert calls == [(1, list(sent))]
    assert len(strategy.reports[-1].quarantined) == 1
    left = {node: model for node, model in replies.items() if node != NODES[0]}
    X = np.stack([flat(model) - flat(sent) for model in left.values()])
    np.testing.assert_allclose(found, flat(sent) + rules.FLTrust()(X, root=np.ones(X.shape[1])), atol=1e-5)


def raises(arrays, server_round):
    raise RuntimeError("no data")


FAILING = {
    "root_fn failed: RuntimeError: no data": raises,
    "root_fn returned NaN or infinity in the array 'conv.weight'": lambda a, r: {
        k: np.nan * v.numpy() for k, v in a.items()
    },
    "root_fn has to return the array 'conv.weight' of shape (4, 1, 3, 3); it returned none": lambda a, r: {},
    "root_fn failed: ValueError": lambda a, r: [np.zeros(3)],
    "root_fn failed: TypeError": lambda a, r: None,
}


@pytest.mark.parametrize(("reason", "root_fn"), FAILING.items(), ids=FAILING)
def test_a_round_without_a_root_is_skipped(reason, root_fn):
    for strategy in (FLTrust(root_fn=root_fn), NNM(flwr_robust.NNA(num_malicious_nodes=1, root_fn=root_fn))):
        number, sent, replies = next(rounds())
        found = aggregate(strategy, number, sent, replies)
        np.testing.assert_array_equal(found, flat(sent))
        assert reason in strategy.reports[-1].skipped


def test_a_strategy_without_root_fn_says_so_before_nodes_train():
    pool = MixTailor(pool=[rules.FLTrust(), rules.Median()])
    for strategy in (FLTrust(), RobustStrategy(rules.chain(rules.ARC(1), rules.NNA(1))), pool):
        with pytest.raises(ValueError, match="needs the server's own update: give root_fn = a function"):
            aggregate(strategy, *next(rounds()))
    with pytest.raises(ValueError, match="FLTrust was given root_fn = 3; give a function"):
        FLTrust(root_fn=3)
    # As unit tests do, without configure_train.
    strategy = FLTrust()
    assert strategy.aggregate_train(1, [reply(node, models(1)[0]) for node in NODES])[0] is None
    assert "was given no root_fn" in strategy.reports[-1].skipped


def test_without_a_model_that_was_sent_it_is_zero():
    sent = models(5)
    strategy = FLTrust(root_fn=lambda arrays, server_round: {k: a.numpy() + 1 for k, a in arrays.items()})
    arrays, _ = strategy.aggregate_train(1, [reply(node, model) for node, model in zip(NODES, sent, strict=True)])
    X = np.stack([flat(model) for model in sent])
    np.testing.assert_allclose(flat(values(arrays)), rules.FLTrust()(X, root=np.ones(X.shape[1])), atol=1e-5)


def test_a_round_without_the_trusted_node_is_skipped():
    strategy = MoNNA(num_malicious_nodes=1, reference=NODES[0])
    for number, sent, replies in rounds():
        aggregate(strategy, number, sent, replies)
        assert (strategy.reports[-1].skipped is None) == (NODES[0] in replies)
