"""Data sets with flipped labels, under torch's DataLoader, and the scores of the global model."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import PoisonedDataset, attacks, frozen_scores, mods, poisoned_labels
from clients.data import poison

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 - needs torch
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402 - needs torch

CLASSES = 5


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))


def samples(count=40):
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 3, generator=random), torch.randint(CLASSES, (count,), generator=random)


def least_probable(net, image):
    """Ask for one sample alone, class by class."""
    net.eval()
    with torch.no_grad():
        probabilities = torch.softmax(net(image[None])[0].double(), dim=0).tolist()
    return min(range(CLASSES), key=lambda label: probabilities[label])


def tensors(count=12):
    return TensorDataset(torch.arange(count).float()[:, None], torch.arange(count) % 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_dataset_in_a_data_loader(workers):
    loader = DataLoader(PoisonedDataset(tensors(), attacks.LabelFlip(3)), batch_size=5, num_workers=workers)
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert x[:, 0].tolist() == list(range(12))
    assert y.dtype == torch.int64
    assert y.tolist() == [2 - i % 3 for i in range(12)]


def test_same_samples_are_flipped_every_time():
    dataset = TensorDataset(torch.zeros(400, 1), torch.zeros(400, dtype=torch.int64))
    one, two = (PoisonedDataset(dataset, attacks.LabelFlip(2, 0.5, seed=3)) for _ in range(2))
    labels = [int(one[i][1]) for i in range(400)]
    assert labels == [int(one[i][1]) for i in range(400)] == [int(two[i][1]) for i in range(400)]
    assert 150 < sum(labels) < 250


def test_items_of_all_kinds():
    flip, pair = attacks.LabelFlip(10), namedtuple("pair", "image digit")
    assert PoisonedDataset([("x", 3)], flip)[0] == ("x", 6)
    assert PoisonedDataset([["x", 3, 4]], flip, label=2)[0] == ["x", 3, 5]
    assert PoisonedDataset([pair("x", 3)], flip)[0] == pair("x", 6)
    item = {"image": "x", "label": 3}
    assert PoisonedDataset([item], flip)[0] == {"image": "x", "label": 6}
    assert item["label"] == 3
    assert PoisonedDataset([{"image": "x", "digit": 9}], flip, label="digit")[0] == {"image": "x", "digit": 0}
    assert PoisonedDataset([("x", 3), ("x", 1)], flip)[-1] == ("x", 8)
    assert len(PoisonedDataset([("x", 3)] * 4, flip)) == 4


def test_dataset_errors():
    with pytest.raises(ValueError, match="map-style"):
        PoisonedDataset(iter([1]), attacks.LabelFlip(3))
    with pytest.raises(ValueError, match="give a LabelFlip or DynamicLabelFlip"):
        PoisonedDataset([("x", 1)], attacks.SignFlip())
    with pytest.raises(ValueError, match="found 0 of the label keys"):
        PoisonedDataset([{"image": 1}], attacks.LabelFlip(3))[0]
    with pytest.raises(ValueError, match="found 2 of the label keys"):
        PoisonedDataset([{"label": 1, "y": 1}], attacks.LabelFlip(3))[0]


def test_convention_changes_nothing_without_the_mod():
    labels = np.array([0, 1])
    assert poisoned_labels(labels) is labels
    assert PoisonedDataset([("x", 3)])[0] == ("x", 3)
    with poison(attacks.LabelFlip(10)):
        assert poisoned_labels(labels).tolist() == [9, 8]
        dataset = PoisonedDataset([("x", 3)])
    assert poisoned_labels(labels) is labels
    assert dataset[0] == ("x", 6)


def test_vectorised_flipping_equals_the_per_sample_definition():
    net, (images, labels) = model(), samples()
    flipped = attacks.DynamicLabelFlip().flip(labels, frozen_scores(net)(images))
    assert flipped.tolist() == [least_probable(net, image) for image in images]
    assert flipped.dtype == labels.dtype
    assert len(set(flipped.tolist())) > 1


def test_frozen_scores_are_those_of_the_received_model():
    net, (images, _) = model(), samples()
    scores = frozen_scores(net)
    before = scores(images)
    net.train()
    for value in net.parameters():
        value.data.add_(1.0)
    torch.testing.assert_close(scores(images), before)
    assert not before.requires_grad
    assert net.training  # the user's model is not switched
    torch.testing.assert_close(scores(images.numpy()), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loaders_batch_is_one_forward_pass(workers):
    net, (images, labels) = model(), samples()
    calls = []
    scores = frozen_scores(net)

    def counted(batch):
        calls.append(len(batch))
        return scores(batch)

    data = PoisonedDataset(TensorDataset(images, labels), attacks.DynamicLabelFlip(), scores=counted)
    batches = list(DataLoader(data, batch_size=16, num_workers=workers))
    assert torch.cat([batch[1] for batch in batches]).tolist() == [least_probable(net, image) for image in images]
    torch.testing.assert_close(torch.cat([batch[0] for batch in batches]), images)
    if workers == 0:
        assert calls == [16, 16, 8]


def test_dataset_flips_the_chosen_samples_alone():
    net, (images, labels) = model(), samples()
    flip = attacks.DynamicLabelFlip(0.5, seed=3)
    data = PoisonedDataset(TensorDataset(images, labels), flip, scores=frozen_scores(net))
    chosen = flip.choose(len(data))
    assert 5 < chosen.sum() < 35
    for index in range(len(data)):
        expected = least_probable(net, images[index]) if chosen[index] else int(labels[index])
        assert int(data[index][1]) == expected


@pytest.mark.parametrize("keys", [("img", "label"), ("x", "y")])
def test_dictionaries(keys):
    net, (images, labels) = model(), samples(8)
    items = [{keys[0]: image.numpy(), keys[1]: int(label)} for image, label in zip(images, labels, strict=True)]
    data = PoisonedDataset(items, attacks.DynamicLabelFlip(), scores=frozen_scores(net))
    assert [item[keys[1]] for item in data.__getitems__(range(8))] == [least_probable(net, i) for i in images]
    with_more = PoisonedDataset([{**item, "id": 1} for item in items], attacks.DynamicLabelFlip(), scores=print)
    with pytest.raises(ValueError, match="name the input's key with inputs="):
        with_more[0]
    named = PoisonedDataset(
        [{**item, "id": 1} for item in items], attacks.DynamicLabelFlip(), scores=frozen_scores(net), inputs=keys[0]
    )
    assert named[3][keys[1]] == least_probable(net, images[3])


def test_wrong_use():
    with pytest.raises(ValueError, match=r"PoisonedDataset was given scores = None for DynamicLabelFlip"):
        PoisonedDataset([(1, 2)], attacks.DynamicLabelFlip())
    with pytest.raises(ValueError, match="probability = 2"):
        attacks.DynamicLabelFlip(2)
    with pytest.raises(
        TypeError, match=r"makes no updates; use it on malicious nodes, with clients\.mods\.DynamicLabelFlip\."
    ):
        attacks.DynamicLabelFlip()(np.ones((2, 2)), 1)


def app(*used):
    """Make an app that follows the convention, with a list of the labels that it trained on."""
    app, seen = ClientApp(mods=list(used)), []
    images, labels = samples()

    @app.train()
    def train(message, context):
        net = model()
        net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        scores = frozen_scores(net)
        seen.append(poisoned_labels(labels, lambda: scores(images)).tolist())
        loader = DataLoader(PoisonedDataset(TensorDataset(images, labels), scores=scores), batch_size=9)
        seen.append(torch.cat([batch[1] for batch in loader]).tolist())
        return Message(RecordDict({"arrays": ArrayRecord(net.state_dict())}), reply_to=message)

    return app, seen


def test_mod_for_apps_that_follow_the_convention():
    net, (images, labels) = model(seed=4), samples()
    order = Message(RecordDict({"arrays": ArrayRecord(net.state_dict())}), dst_node_id=7, message_type="train")
    context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})
    honest, seen = app()
    honest(order, context)
    assert seen == [labels.tolist()] * 2
    malicious, seen = app(mods.DynamicLabelFlip())
    malicious(order, context)
    assert seen == [[least_probable(net, image) for image in images]] * 2
    static, seen = app(mods.LabelFlip(CLASSES))
    static(order, context)
    assert seen == [(CLASSES - 1 - labels).tolist()] * 2
