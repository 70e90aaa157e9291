"""Mods on real ClientApps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import PoisonedDataset, attacks, mods, poisoned_labels
from tests.clients.apps import W, client_app, context, message, step
from tests.clients.fake_nodes import arrays_of, instructions, trained, with_statistics


def test_sign_flip():
    reply = client_app(mods.SignFlip())(message(), context())
    arrays = reply.content["arrays"]
    np.testing.assert_array_equal(arrays["w"].numpy(), W - 0.25)
    assert arrays["w"].dtype == "float32"
    assert arrays["b"].numpy() == 0.5 - 1
    assert arrays["b"].shape == ()
    assert arrays["seen"].numpy() == 13
    assert list(arrays) == ["w", "seen", "b"]
    assert reply.content["metrics"] == MetricRecord({"num-examples": 4})


@pytest.mark.parametrize("mod", [mods.SignFlip(), mods.LabelFlip(10)])
def test_evaluate_is_not_touched(mod):
    reply = client_app(mod)(message("evaluate"), context())
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)


def test_two_flips_are_none():
    reply = client_app(mods.SignFlip(), mods.SignFlip())(message(), context())
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)


def test_errors_pass():
    app = ClientApp()

    @app.train(mods=[mods.SignFlip()])
    def train(message, context):
        return Message(Error(code=3, reason="no data"), reply_to=message)

    assert app(message(), context()).error.code == 3


def test_replies_that_do_not_fit_pass_with_a_warning(caplog):
    app = ClientApp()

    @app.train(mods=[mods.SignFlip()])
    def train(message, context):
        return Message(RecordDict({"arrays": ArrayRecord([np.ones(2)])}), reply_to=message)

    reply = app(message(), context())
    np.testing.assert_array_equal(reply.content["arrays"]["0"].numpy(), np.ones(2))
    assert "SignFlip leaves the reply as it is: the reply lacks the array 'w'" in caplog.text


def test_non_finite_mod():
    arrays = arrays_of(client_app(mods.NonFinite())(message(), context()))
    assert np.isnan(arrays["w"].numpy()).all()
    assert np.isnan(arrays["b"].numpy())
    assert arrays["seen"].numpy() == 13  # counters are left alone


def test_scaled_mod_scales_the_update_not_the_parameters():
    arrays = arrays_of(client_app(mods.Scaled(-4.0))(message(), context()))
    np.testing.assert_array_equal(arrays["w"].numpy(), W - 1)
    assert arrays["w"].dtype == "float32"
    assert arrays["b"].numpy() == 0.5 - 4


def test_noise_mods_draw_anew_for_each_node_and_round():
    def noise(mod, node, server_round, **config):
        reply = client_app(mod)(message(server_round=server_round), context(node, **config))
        return tuple(arrays_of(reply)["w"].numpy().ravel().tolist())

    # A new mod each time: a node's process may have just begun.
    assert noise(mods.Random(seed=1), 7, 1) == noise(mods.Random(seed=1), 7, 1)
    different = [noise(mods.Random(seed=s), n, r) for s, n, r in [(1, 7, 1), (1, 7, 2), (1, 8, 1), (2, 7, 1)]]
    assert len(set(different)) == 4
    assert noise(mods.Random(seed=1), 7, 1, **{"partition-id": 0}) == noise(
        mods.Random(seed=1), 8, 1, **{"partition-id": 0}
    )
    assert noise(mods.Noise(0.0), 7, None) == tuple((W + 0.25).ravel().tolist())


def test_wrong_shape_mod():
    arrays = arrays_of(client_app(mods.WrongShape())(message(), context()))
    assert {key: array.shape for key, array in arrays.items()} == {"w": (3,), "seen": (2,), "b": (2,)}


def test_garbage_mod_declares_what_it_does_not_hold():
    reply = client_app(mods.Garbage(seed=1))(message(), context())
    array = arrays_of(reply)["w"]
    assert (array.shape, array.dtype) == ((1, 2), "float32")
    with pytest.raises((ValueError, EOFError)):
        array.numpy()
    assert reply.content["metrics"] == MetricRecord({"num-examples": 4})


def test_silent_mod_answers_with_an_error_after_its_time():
    start = time.monotonic()
    reply = client_app(mods.Silent(0.05))(message(), context())
    assert time.monotonic() - start >= 0.05
    assert reply.has_error()
    assert reply.error.reason == "the node sends no update"


def test_label_flip():
    torch, data = pytest.importorskip("torch"), pytest.importorskip("torch.utils.data")
    app, seen = ClientApp(), {}

    @app.train(mods=[mods.LabelFlip(num_classes=10)])
    def train(message, context):
        dataset = PoisonedDataset(data.TensorDataset(torch.zeros(4, 1), torch.arange(4)))
        seen["loader"] = [int(label) for _, label in data.DataLoader(dataset)]
        seen["array"] = poisoned_labels(np.arange(4)).tolist()
        return step(message)

    reply = app(message(), context())
    assert seen == {"loader": [9, 8, 7, 6], "array": [9, 8, 7, 6]}
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)
    assert poisoned_labels(3) == 3


def test_label_flip_ends_with_the_call_even_if_it_fails():
    app = ClientApp()

    @app.train(mods=[mods.LabelFlip(10)])
    def train(message, context):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        app(message(), context())
    assert poisoned_labels(3) == 3


def test_label_flip_probability_and_errors():
    mod = mods.LabelFlip(2, probability=0.5, seed=1)
    assert (mod.attack.probability, mod.attack.seed) == (0.5, 1)
    with pytest.raises(ValueError, match="LabelFlip was given probability"):
        mods.LabelFlip(2, probability=2)


def test_running_statistics_can_be_left_alone():
    order = instructions([7], arrays=with_statistics())[0]
    honest, sent = arrays_of(trained(order)), with_statistics()
    forged = arrays_of(mods.SignFlip(statistics=False)(order, context(), lambda message, _: trained(message)))
    for key in ("bn.running_mean", "bn.running_var"):
        np.testing.assert_array_equal(forged[key].numpy(), honest[key].numpy())
    np.testing.assert_allclose(forged["w"].numpy(), 2 * sent["w"].numpy() - honest["w"].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (attacks.Silent(), "AttackMod was given attack = Silent"),
        (attacks.ALittleIsEnough("optimal"), "without the server's rule"),
    ],
)
def test_attacks_that_a_node_on_its_own_cannot_make(attack, message):
    with pytest.raises(ValueError, match=message):
        mods.AttackMod(attack)
