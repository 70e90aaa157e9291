"""Backdoors and deliveries on real messages: data sets, mods, NumPyClients and the colluding adversary."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

from clients import MaliciousNumPyClient, PoisonedDataset, attacks, mods, poisoned, poisoned_labels
from clients.data import poison
from tests.clients.apps import W, client_app, context, message, step
from tests.clients.fake_nodes import FakeGrid, attacked, by_node, instructions, model, trained, update

EDGE = np.full((2, 1, 8, 8), 9.0, dtype=np.float32)


def bright(inputs, labels):
    return np.asarray(inputs)[:, 0, 0, 0] > 0


BACKDOORS = {
    "BadNets": attacks.BadNets(0, seed=5),
    "Blended": attacks.Blended(0, seed=5),
    "DBA": attacks.DBA(0, width=3, seed=5),
    "EdgeCase": attacks.EdgeCase(0, EDGE, seed=5),
    "SemanticLabelSwap": attacks.SemanticLabelSwap(0, bright, seed=5),
}


def data(count=30):
    random = np.random.default_rng(1)
    return random.normal(size=(count, 1, 8, 8)).astype(np.float32), random.integers(0, 4, count)


@pytest.fixture(params=BACKDOORS)
def name(request):
    return request.param


# ---------------------------------------------------------------- data sets


def test_a_data_set_is_poisoned_as_arrays_are(name):
    inputs, labels = data()
    attack = BACKDOORS[name]
    dataset = PoisonedDataset(list(zip(inputs, labels, strict=True)), attack, part=2)
    wanted, false = attack.poison(inputs, labels, part=2)
    np.testing.assert_array_equal(np.stack([x for x, _ in dataset]), wanted)
    assert [int(y) for _, y in dataset] == false.tolist()
    together = dataset.__getitems__([3, -1])
    np.testing.assert_array_equal(together[0][0], wanted[3])
    np.testing.assert_array_equal(together[1][0], wanted[-1])
    if not attack.needs_inputs:
        known = PoisonedDataset(list(zip(inputs, labels, strict=True)), attack, part=2, labels=labels)
        assert [int(y) for _, y in known] == false.tolist()


def test_tensors_in_a_loader(name):
    torch, load = pytest.importorskip("torch"), pytest.importorskip("torch.utils.data")
    inputs, labels = data()
    attack = BACKDOORS[name]
    tensors = load.TensorDataset(torch.tensor(inputs), torch.tensor(labels))
    x, y = (torch.cat(parts) for parts in zip(*load.DataLoader(PoisonedDataset(tensors, attack), 8), strict=True))
    wanted, false = attack.poison(inputs, labels)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(x.numpy(), wanted)
    assert y.tolist() == false.tolist()


@pytest.mark.parametrize("label", [3, np.int64(3), np.array(3)], ids=["int", "numpy", "array"])
def test_the_kind_of_a_label_is_kept(label):
    item = {"img": np.zeros((4, 4)), "label": label}
    dataset = PoisonedDataset([item], attacks.BadNets(1, fraction=1.0))
    assert dataset[0]["label"] == 1
    assert item["label"] == 3
    assert not item["img"].any()
    assert isinstance(dataset[0]["label"], int) == isinstance(label, int)


def test_channels_may_be_last():
    inputs, labels = np.zeros((2, 4, 6, 3)), np.array([1, 1])
    attack = attacks.BadNets(0, size=1, value=(1.0, 2.0, 3.0), fraction=1.0)
    with poison(attack):
        marked, _ = poisoned(inputs, labels, channels_last=True)
    wanted = np.zeros((2, 4, 6, 3))
    wanted[:, 3, 5] = [1, 2, 3]
    np.testing.assert_array_equal(marked, wanted)
    dataset = PoisonedDataset(list(zip(inputs, labels, strict=True)), attack, channels_last=True)
    np.testing.assert_array_equal(dataset[1][0], wanted[1])


def test_labels_that_are_not_as_many():
    with pytest.raises(ValueError, match="1 labels for 2 samples"):
        PoisonedDataset([("x", 1), ("x", 2)], attacks.BadNets(0), labels=[1])


def test_the_convention_changes_nothing_without_a_mod():
    inputs, labels = data(4)
    same = poisoned(inputs, labels)
    assert same[0] is inputs
    assert same[1] is labels


def test_label_flips_pass_through_the_same_line():
    inputs, labels = data(4)
    with poison(attacks.LabelFlip(4)):
        same, flipped = poisoned(inputs, labels)
    assert same is inputs
    np.testing.assert_array_equal(flipped, 3 - labels)


def test_labels_alone_carry_no_backdoor():
    with (
        poison(attacks.BadNets(0)),
        pytest.raises(ValueError, match=r"use inputs, labels = poisoned\(inputs, labels\)"),
    ):
        poisoned_labels(np.array([1]))


def test_an_empty_data_set_stays_empty(name):
    assert len(PoisonedDataset([], BACKDOORS[name])) == 0


# ---------------------------------------------------------------- mods


def made_mod(name):
    attack = BACKDOORS[name]
    fields = inspect.signature(type(attack)).parameters
    return getattr(mods, name)(**{field: getattr(attack, field) for field in fields})


def app_with(mod, seen):
    inputs, labels = data()
    app = ClientApp(mods=[mod])

    @app.train()
    def train(message, context):
        seen["arrays"] = poisoned(inputs, labels)
        seen["items"] = [y for _, y in PoisonedDataset(list(zip(inputs, labels, strict=True)))]
        return step(message)

    return app


def test_data_mods_take_all_five(name):
    seen = {}
    reply = app_with(made_mod(name), seen)(message(), context(7, **{"partition-id": 2}))
    inputs, labels = data()
    wanted, false = BACKDOORS[name].poison(inputs, labels, part=2)
    np.testing.assert_array_equal(seen["arrays"][0], wanted)
    np.testing.assert_array_equal(seen["arrays"][1], false)
    assert [int(y) for y in seen["items"]] == false.tolist()
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)  # what training gave


def test_dba_may_be_told_its_part():
    seen = {}
    app_with(mods.DBA(0, part=1, width=3, seed=5), seen)(message(), context(7, **{"partition-id": 2}))
    np.testing.assert_array_equal(seen["arrays"][0], BACKDOORS["DBA"].poison(*data(), part=1)[0])


def test_a_node_without_a_sample_of_the_source_class_does_nothing_and_says_so(caplog):
    seen = {}
    with caplog.at_level(logging.WARNING):
        app_with(mods.BadNets(0, source=9, seed=1), seen)(message(), context())
    inputs, labels = data()
    np.testing.assert_array_equal(seen["arrays"][0], inputs)
    np.testing.assert_array_equal(seen["arrays"][1], labels)
    assert "finds nothing to poison among 30 samples: this node trains honestly" in caplog.text


def test_replacement_and_projection_on_ones_own():
    reply = client_app(mods.ModelReplacement(8.0))(message(), context())
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 2)
    reply = client_app(mods.PGD(0.125, norm=np.inf))(message(), context())
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.125)
    assert reply.content["arrays"]["b"].numpy() == 0.625


def test_what_depends_on_others_must_be_given():
    with pytest.raises(TypeError, match="factor"):
        mods.ModelReplacement()
    with pytest.raises(ValueError, match="give a number for factor"):
        mods.AttackMod(attacks.ModelReplacement())
    with pytest.raises(ValueError, match="give a number for radius"):
        mods.AttackMod(attacks.PGD())


def neurotoxin_update(mod, node_context, shift):
    arrays = ArrayRecord({"w": Array(W + np.float32(shift))})
    order = Message(RecordDict({"arrays": arrays, "config": ConfigRecord({})}), dst_node_id=7, message_type="train")

    def call_next(asked, _):
        sent = asked.content["arrays"]["w"].numpy()
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(sent + np.float32(1))})}), reply_to=asked)

    reply = mod(order, node_context, call_next)
    return reply.content["arrays"]["w"].numpy() - (W + np.float32(shift))


def test_neurotoxin_remembers_the_last_model_in_the_nodes_state():
    node, others = context(), context()
    # No move is known at first: the node's own update stands for it, in which all are equal.
    np.testing.assert_array_equal(neurotoxin_update(mods.Neurotoxin(0.5), node, np.array([[0, 0]])), [[0, 1]])
    # A new mod: the process need not be the one of the last round.
    np.testing.assert_array_equal(neurotoxin_update(mods.Neurotoxin(0.5), node, np.array([[1, -3]])), [[1, 0]])
    np.testing.assert_array_equal(neurotoxin_update(mods.Neurotoxin(0.5), node, np.array([[5, -3]])), [[0, 1]])
    np.testing.assert_array_equal(neurotoxin_update(mods.Neurotoxin(0.5), others, np.array([[1, -3]])), [[0, 1]])


class Client(NumPyClient):
    def fit(self, parameters, config):
        return [values + 1 for values in parameters], 1, {}


def test_neurotoxin_of_numpy_clients_goes_by_node():
    mod = mods.Neurotoxin(0.5)
    one, two = MaliciousNumPyClient(Client(), mod, node=1), MaliciousNumPyClient(Client(), mod, node=2)
    start = np.zeros(2, dtype=np.float32)
    for client in (one, two):
        np.testing.assert_array_equal(client.fit([start], {"round": 1})[0][0], [0, 1])
    moved = np.array([0.5, -3], dtype=np.float32)
    for client in (one, two):
        np.testing.assert_array_equal(client.fit([moved], {"round": 2})[0][0] - moved, [1, 0])


# ---------------------------------------------------------------- the adversary


def moved(values):
    arrays = dict(model().items())
    arrays["w"] = Array((arrays["w"].numpy() + values).astype(np.float32))
    return ArrayRecord(arrays)


def test_the_adversary_sees_the_models_last_move():
    _, adversary = attacked(attacks.Neurotoxin(0.25), [1, 2])  # 4 of 16
    adversary.send_and_receive(instructions(range(1, 7)))
    move = np.zeros((3, 4))
    move[1] = [5, -6, 7, -8]
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7), arrays=moved(move))))
    honest = {
        node: update(trained(one), moved(move))
        for node, one in zip((1, 2), instructions((1, 2), arrays=moved(move)), strict=True)
    }
    for node in (1, 2):
        wanted = honest[node].copy()
        wanted[4:8] = 0
        np.testing.assert_allclose(update(replies[node], moved(move)), wanted, atol=1e-6)


def test_the_move_survives_a_restart():
    attack = attacks.Neurotoxin(0.25)
    _, first = attacked(attack, [1])
    first.send_and_receive(instructions(range(1, 7)))
    _, second = attacked(attack, [1])
    second.load_state(first.state())
    move = np.zeros((3, 4))
    move[2] = 9
    reply = by_node(second.send_and_receive(instructions(range(1, 7), arrays=moved(move))))[1]
    assert not update(reply, moved(move))[8:12].any()


def test_attacks_that_do_not_follow_the_model_keep_none():
    _, adversary = attacked(attacks.ModelReplacement(), [1])
    adversary.send_and_receive(instructions(range(1, 7)))
    assert set(adversary.state()) == {"adversary.rounds"}


def test_colluding_nodes_know_how_many_they_are():
    _, adversary = attacked(attacks.ModelReplacement(), [1, 2])
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    for node, one in zip((1, 2), instructions((1, 2)), strict=True):
        np.testing.assert_allclose(update(replies[node]), 3 * update(trained(one)), atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (attacks.BadNets(0), "was given the data attack BadNets"),
        (attacks.AlterMin(), r"call its train\(\) on the malicious nodes"),
    ],
)
def test_what_an_adversary_cannot_do(attack, message):
    from clients import Adversary

    with pytest.raises(ValueError, match=message):
        Adversary(FakeGrid(range(3), trained), attack, malicious=1)
