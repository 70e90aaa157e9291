"""The ClientApp, called as Flower calls it, without a grid."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from simulations.config.run_config import RunConfig
from simulations.data.batches import Plan, draw_batches
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.node.client import app
from simulations.node.models import build_model
from simulations.node.node import run_partitions

pytestmark = pytest.mark.usefixtures("task_identity")

NODES = 6
PLAIN = RunConfig(
    partition="iid", num_malicious=2, attack="none", weight_decay=0.0, gradient_clip=0.0, momentum=0.9, model="softmax"
)


def context(partition_id):
    return Context(
        run_id=1,
        node_id=1000 + partition_id,
        node_config={"partition-id": partition_id, "num-partitions": NODES},
        state=RecordDict(),
        run_config={},
    )


def ask(config, node, server_round=1, token="one", arrays=None, kind=MessageType.TRAIN):
    """Send a node a message as the server does, and return the reply's content."""
    arrays = arrays or ArrayRecord(build_model(config.model, config.dataset, seed=7).state_dict())
    order = ConfigRecord(
        {**config.to_run_config(), "num-nodes": NODES, "server-round": server_round, "run-token": token}
    )
    message = Message(RecordDict({"arrays": arrays, "config": order}), dst_node_id=node.node_id, message_type=kind)
    return app(message, node).content


def update(content, config=PLAIN):
    """Return what a node changed, as one vector."""
    start = build_model(config.model, config.dataset, seed=7).state_dict()
    after = content["arrays"].to_torch_state_dict()
    return torch.cat([(after[name] - start[name]).flatten() for name in start])


def slope(node_id, server_round, poison=None):
    """Return the gradient of the node's batch at the initial model, by autograd alone."""
    model = build_model(PLAIN.model, PLAIN.dataset, seed=7)
    data, indices = load_split("digits", "train"), run_partitions(PLAIN, NODES)[node_id]
    seeds = (PLAIN.seed, node_id, server_round)
    ((images, labels),) = draw_batches(Inputs.of("digits"), data, indices, Plan(25), seeds, torch.device("cpu"), poison)
    loss = -model(images)[torch.arange(len(labels)), labels].mean()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def test_a_node_tells_its_partition():
    content = ask(PLAIN, context(4), kind=MessageType.QUERY)
    assert dict(content["node"]) == {"partition-id": 4, "num-partitions": NODES}


def test_reply_has_arrays_and_metrics_under_flowers_keys():
    content = ask(PLAIN, context(0))
    assert set(content) == {"arrays", "metrics"}
    assert content["metrics"]["num-examples"] == len(run_partitions(PLAIN, NODES)[0])
    assert content["metrics"]["train-loss"] == pytest.approx(np.log(10), rel=1e-4)


def test_update_is_minus_rate_times_momentum_over_rounds():
    node = context(0)
    first, second = (update(ask(PLAIN, node, server_round)) for server_round in (1, 2))
    momentum = 0.1 * slope(0, 1)
    torch.testing.assert_close(first, -PLAIN.learning_rate * momentum, rtol=1e-4, atol=1e-7)
    momentum = 0.9 * momentum + 0.1 * slope(0, 2)
    torch.testing.assert_close(second, -PLAIN.learning_rate * momentum, rtol=1e-4, atol=1e-7)


def test_another_run_starts_without_momentum():
    used, fresh = context(0), context(0)
    ask(PLAIN, used, 1, token="one")
    assert torch.equal(update(ask(PLAIN, used, 2, token="two")), update(ask(PLAIN, fresh, 2, token="two")))
    assert not torch.equal(update(ask(PLAIN, used, 3, token="two")), update(ask(PLAIN, fresh, 3, token="three")))


def test_schedule_counts_all_local_steps():
    config = RunConfig.from_record(PLAIN.to_run_config() | {"local-steps": 3, "lr-schedule": "steps:3:1e-9"})
    assert update(ask(config, context(0), 1)).norm() > 1e-3
    assert update(ask(config, context(0), 2)).norm() < 1e-6


def test_only_malicious_nodes_flip_labels():
    config = RunConfig.from_record(PLAIN.to_run_config() | {"attack": "label-flip"})
    for node_id in range(NODES):
        poison = (lambda _, images, labels: (images, 9 - labels)) if node_id >= NODES - 2 else None
        expected = -0.1 * slope(node_id, 1, poison)
        torch.testing.assert_close(update(ask(config, context(node_id))), expected, rtol=1e-4, atol=1e-7)


def test_label_flips_with_a_probability_can_be_repeated():
    config = RunConfig.from_record(PLAIN.to_run_config() | {"attack": "label-flip", "attack-args": "probability=0.5"})
    one, two = (update(ask(config, context(5))) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, update(ask(PLAIN, context(5))))


def test_malicious_nodes_copy_an_honest_share_where_only_honest_nodes_hold_data():
    config = RunConfig.from_record(PLAIN.to_run_config() | {"data-holders": "honest"})
    parts = run_partitions(config, NODES)
    assert len(parts) == NODES - 2
    assert sum(map(len, parts)) == len(load_split("digits", "train"))
    assert ask(config, context(5))["metrics"]["num-examples"] == len(parts[1])


def test_batch_normalisation_buffers_travel(monkeypatch):
    import simulations.node.node as client
    from simulations.data.load import Split

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    data = Split(images, random.integers(0, 10, 60))
    monkeypatch.setattr(client, "load_split", lambda *_: data)
    monkeypatch.setattr(client, "run_partitions", lambda *_: (np.arange(60),))
    config = RunConfig(dataset="cifar10", num_malicious=0, batch_size=4, local_steps=2)
    start = build_model("cnn-cifar10", "cifar10", seed=7).state_dict()
    one, two = (ask(config, context(0))["arrays"].to_torch_state_dict() for _ in range(2))
    assert one.keys() == start.keys()
    assert {name: (value.shape, value.dtype) for name, value in one.items()} == {
        name: (value.shape, value.dtype) for name, value in start.items()
    }
    assert int(one["2.num_batches_tracked"]) == 2
    assert not torch.equal(one["2.running_mean"], start["2.running_mean"])
    assert all(torch.equal(one[name], two[name]) for name in one)  # dropout draws from the node's own seed


def test_evaluation_is_on_the_nodes_own_samples():
    metrics = ask(PLAIN, context(2), kind=MessageType.EVALUATE)["metrics"]
    labels = load_split("digits", "train").labels[run_partitions(PLAIN, NODES)[2]]
    assert metrics["num-examples"] == len(labels)
    assert metrics["accuracy"] == pytest.approx((labels == 0).mean())  # a zero model always answers class 0
