"""Faults as mathematics, as mods of single clients, in NumPyClients and in an adversary."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

from clients import MaliciousNumPyClient, attacks, mods
from flwr_robust import Median
from tests.clients.fake_nodes import attacked, by_node, floats, instructions, trained, update

NAMES = ["non-finite", "scaled", "wrong-shape", "garbage", "silent"]
W = np.array([[1.0, -2.0]], dtype=np.float32)


def context(node: int = 7, **config: Any) -> Context:
    return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})


def message(server_round: int | None = 1) -> Message:
    arrays = ArrayRecord({"w": Array(W), "seen": Array(np.array(3)), "b": Array(np.array(0.5))})
    config = ConfigRecord({} if server_round is None else {"server-round": server_round})
    return Message(RecordDict({"arrays": arrays, "config": config}), dst_node_id=7, message_type="train")


def client_app(*used: Any) -> ClientApp:
    """Make an app that adds 0.25 to w and 10 to the counter."""
    app = ClientApp(mods=list(used))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content["arrays"]
        assert isinstance(arrays, ArrayRecord)
        new = ArrayRecord(
            {
                "w": Array(arrays["w"].numpy() + np.float32(0.25)),
                "seen": Array(np.asarray(arrays["seen"].numpy() + 10)),
                "b": arrays["b"],
            }
        )
        return Message(RecordDict({"arrays": new, "metrics": MetricRecord({"num-examples": 4})}), reply_to=message)

    return app


def arrays_of(reply: Message) -> ArrayRecord:
    return next(iter(reply.content.array_records.values()))


def test_formulas() -> None:
    honest, own = np.ones((3, 4), np.float32), np.full((2, 4), 3.0, np.float32)
    np.testing.assert_array_equal(attacks.Scaled(-2.0)(honest, 2, own=own), -2 * own)
    np.testing.assert_array_equal(attacks.Scaled(-2.0)(honest, 2), -2 * honest[:2])
    assert np.isnan(attacks.NonFinite()(honest, 2)).all()
    assert np.isneginf(attacks.NonFinite(float("-inf"))(honest, 2)).all()
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    spoilt = attacks.WrongShape().spoil(array)
    np.testing.assert_array_equal(spoilt, [0, 1, 2, 3, 4, 5, 0])
    assert spoilt.dtype == np.float32
    assert len(attacks.Garbage(seed=1).spoil(array)) == 24
    assert attacks.Garbage(seed=1).spoil(array) == attacks.Garbage(seed=1).spoil(array)
    assert attacks.Garbage(seed=1).spoil(array) != attacks.Garbage(seed=2).spoil(array)
    for fault in (attacks.WrongShape(), attacks.Garbage(), attacks.Silent()):
        with pytest.raises(TypeError, match="makes no updates"):
            fault(honest, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.NonFinite(1.0), "NonFinite was given value = 1.0; give NaN, infinity"),
        (lambda: attacks.Scaled(float("inf")), "Scaled was given factor = inf; give a finite number"),
        (lambda: attacks.Silent(-1), "Silent was given seconds = -1"),
        (lambda: attacks.Garbage(seed=-1), "Garbage was given seed = -1"),
        (lambda: mods.AttackMod(attacks.Silent()), "AttackMod was given attack = Silent"),
        (lambda: mods.AttackMod(attacks.ALittleIsEnough("optimal")), "without the server's rule"),
    ],
)
def test_wrong_parameters(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_non_finite_mod() -> None:
    arrays = arrays_of(client_app(mods.NonFinite())(message(), context()))
    assert np.isnan(arrays["w"].numpy()).all()
    assert np.isnan(arrays["b"].numpy())
    assert arrays["seen"].numpy() == 13  # counters are left alone


def test_scaled_mod_scales_the_update_not_the_parameters() -> None:
    arrays = arrays_of(client_app(mods.Scaled(-4.0))(message(), context()))
    np.testing.assert_array_equal(arrays["w"].numpy(), W - 1)
    assert arrays["w"].dtype == "float32"
    assert arrays["b"].numpy() == 0.5


def test_noise_mods_draw_anew_for_each_node_and_round() -> None:
    def noise(mod: mods.ClientMod, node: int, server_round: int | None, **config: Any) -> Any:
        reply = client_app(mod)(message(server_round), context(node, **config))
        return tuple(arrays_of(reply)["w"].numpy().ravel().tolist())

    # A new mod each time: a node's process may have just begun.
    assert noise(mods.Random(seed=1), 7, 1) == noise(mods.Random(seed=1), 7, 1)
    different = [noise(mods.Random(seed=s), n, r) for s, n, r in [(1, 7, 1), (1, 7, 2), (1, 8, 1), (2, 7, 1)]]
    assert len(set(different)) == 4
    assert noise(mods.Random(seed=1), 7, 1, **{"partition-id": 0}) == noise(
        mods.Random(seed=1), 8, 1, **{"partition-id": 0}
    )
    assert noise(mods.Noise(0.0), 7, None) == tuple((W + 0.25).ravel().tolist())


def test_wrong_shape_mod() -> None:
    arrays = arrays_of(client_app(mods.WrongShape())(message(), context()))
    assert {key: array.shape for key, array in arrays.items()} == {"w": (3,), "seen": (2,), "b": (2,)}


def test_garbage_mod_declares_what_it_does_not_hold() -> None:
    reply = client_app(mods.Garbage(seed=1))(message(), context())
    array = arrays_of(reply)["w"]
    assert (array.shape, array.dtype) == ((1, 2), "float32")
    with pytest.raises((ValueError, EOFError)):
        array.numpy()
    assert reply.content["metrics"] == MetricRecord({"num-examples": 4})


def test_silent_mod_answers_with_an_error_after_its_time() -> None:
    start = time.monotonic()
    reply = client_app(mods.Silent(0.2))(message(), context())
    assert time.monotonic() - start >= 0.2
    assert reply.has_error()
    assert reply.error.reason == "the node sends no update"


class Client(NumPyClient):
    def fit(self, parameters: Any, config: Any) -> Any:
        return [parameters[0] + np.float32(0.25), parameters[1] + 10], 4, {}


@pytest.mark.parametrize("name", NAMES)
def test_numpy_clients(name: str) -> None:
    mod: mods.ClientMod = {
        "non-finite": mods.NonFinite(),
        "scaled": mods.Scaled(-4.0),
        "wrong-shape": mods.WrongShape(),
        "garbage": mods.Garbage(seed=1),
        "silent": mods.Silent(),
    }[name]
    client = MaliciousNumPyClient(Client(), mod)
    if name == "silent":
        with pytest.raises(RuntimeError, match="sends no update"):
            client.fit([W, np.array(3)], {})
        return
    (w, seen), num_examples, _ = client.fit([W, np.array(3)], {})
    assert num_examples == 4
    if name == "non-finite":
        assert np.isnan(w).all()
        assert seen == 13
    elif name == "scaled":
        np.testing.assert_array_equal(w, W - 1)
        assert seen == 13
    elif name == "wrong-shape":
        assert (w.shape, seen.shape) == ((3,), (2,))
    else:
        assert (w.dtype, w.size) == (np.uint8, W.nbytes)


@pytest.mark.parametrize("name", NAMES)
def test_adversary_and_strategy(name: str) -> None:
    """The strategy quarantines what the adversary makes of two nodes, and reports just them."""
    grid, adversary = attacked(attacks.from_spec(name), [2, 5])
    replies = adversary.send_and_receive(instructions(range(1, 7)))
    given = by_node(grid.given)
    for reply in replies:
        if reply.metadata.src_node_id not in (2, 5):
            assert reply is given[reply.metadata.src_node_id]
    strategy = Median(num_malicious_nodes=2)
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    fates = strategy.reports[-1].nodes
    caught = {node for node, fate in fates.items() if fate.status == "quarantined"}
    if name == "silent":
        assert set(fates) == {1, 3, 4, 6}
    elif name == "scaled":
        assert not caught
        np.testing.assert_allclose(update(by_node(replies)[2]), 100 * update(given[2]), rtol=1e-4, atol=1e-4)
    else:
        assert caught == {2, 5}
        honest = [floats(given[node].content) for node in (1, 3, 4, 6)]
        expected = np.median(honest, axis=0)
        np.testing.assert_allclose(floats(RecordDict({"arrays": arrays})), expected, atol=1e-6)


def test_silent_nodes_are_not_waited_for_by_who_pulls() -> None:
    _, adversary = attacked(attacks.Silent(), [2])
    ids = adversary.push_messages(instructions([1, 2, 3]))
    assert sorted(by_node(adversary.pull_messages(ids))) == [1, 3]
    assert adversary.pull_messages(ids) == []
    assert not adversary._batches  # nothing is kept for what will not come


def test_own_attacks_need_no_honest_reply() -> None:
    grid, adversary = attacked(attacks.Scaled(-1.0), [2], trained)
    (reply,) = adversary.send_and_receive(instructions([2]))
    np.testing.assert_allclose(update(reply), -update(grid.given[0]), atol=1e-6)
