"""Dynamic label flipping: the label that the global model finds least probable (LPA 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import PoisonedDataset, attacks, frozen_scores, mods, poisoned_labels

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 - needs torch
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402 - needs torch

CLASSES = 5


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))


def samples(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 3, generator=random), torch.randint(CLASSES, (count,), generator=random)


def least_probable(net: nn.Module, image: torch.Tensor) -> int:
    """Ask for one sample alone, class by class."""
    net.eval()
    with torch.no_grad():
        probabilities = torch.softmax(net(image[None])[0].double(), dim=0).tolist()
    return min(range(CLASSES), key=lambda label: probabilities[label])


def test_vectorised_flipping_equals_the_per_sample_definition() -> None:
    net, (images, labels) = model(), samples()
    flipped = attacks.DynamicLabelFlip().flip(labels, frozen_scores(net)(images))
    assert flipped.tolist() == [least_probable(net, image) for image in images]
    assert flipped.dtype == labels.dtype
    assert len(set(flipped.tolist())) > 1


def test_by_hand() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    flip = attacks.DynamicLabelFlip()
    assert flip.flip([0, 1, 2], scores).tolist() == [2, 0, 0]
    assert flip.flip(np.array([0, 1, 2], np.uint8), lambda: np.log(scores)).tolist() == [2, 0, 0]
    assert flip.flip(1, scores[1]) == 0
    # A label that is least probable already stays.
    assert flip.flip([2], scores[:1]).tolist() == [2]


def test_probability() -> None:
    scores = np.tile([0.1, 0.9], (4000, 1))
    flipped = attacks.DynamicLabelFlip(0.25, seed=1).flip(np.ones(4000, np.int64), scores)
    assert 900 < int((flipped == 0).sum()) < 1100
    again = attacks.DynamicLabelFlip(0.25, seed=1).flip(np.ones(4000, np.int64), scores)
    np.testing.assert_array_equal(flipped, again)


def test_frozen_scores_are_those_of_the_received_model() -> None:
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
def test_a_loaders_batch_is_one_forward_pass(workers: int) -> None:
    net, (images, labels) = model(), samples()
    calls: list[int] = []
    scores = frozen_scores(net)

    def counted(batch: Any) -> Any:
        calls.append(len(batch))
        return scores(batch)

    data = PoisonedDataset(TensorDataset(images, labels), attacks.DynamicLabelFlip(), scores=counted)
    batches = list(DataLoader(data, batch_size=16, num_workers=workers))  # type: ignore[arg-type]
    assert torch.cat([batch[1] for batch in batches]).tolist() == [least_probable(net, image) for image in images]
    torch.testing.assert_close(torch.cat([batch[0] for batch in batches]), images)
    if workers == 0:
        assert calls == [16, 16, 8]


def test_dataset_flips_the_chosen_samples_alone() -> None:
    net, (images, labels) = model(), samples()
    flip = attacks.DynamicLabelFlip(0.5, seed=3)
    data = PoisonedDataset(TensorDataset(images, labels), flip, scores=frozen_scores(net))
    chosen = flip.choose(len(data))
    assert 5 < chosen.sum() < 35
    for index in range(len(data)):
        expected = least_probable(net, images[index]) if chosen[index] else int(labels[index])
        assert int(data[index][1]) == expected


@pytest.mark.parametrize("keys", [("img", "label"), ("x", "y")])
def test_dictionaries(keys: tuple[str, str]) -> None:
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


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (None, "was given no scores"),
        (np.ones((2, 3)), r"shape \(2, 3\) for labels of shape \(1,\)"),
        (np.ones(3), "one"),
    ],
)
def test_wrong_scores(scores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attacks.DynamicLabelFlip().flip([1], scores)


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match=r"PoisonedDataset was given scores = None for DynamicLabelFlip"):
        PoisonedDataset([(1, 2)], attacks.DynamicLabelFlip())
    with pytest.raises(ValueError, match="probability = 2"):
        attacks.DynamicLabelFlip(2)
    with pytest.raises(
        TypeError, match=r"makes no updates; use it on malicious nodes, with clients\.mods\.DynamicLabelFlip\."
    ):
        attacks.DynamicLabelFlip()(np.ones((2, 2)), 1)


def app(*used: mods.ClientMod) -> tuple[ClientApp, list[Any]]:
    """Make an app that follows the convention, with a list of the labels that it trained on."""
    app, seen = ClientApp(mods=list(used)), []
    images, labels = samples()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        net = model()
        net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        scores = frozen_scores(net)
        seen.append(poisoned_labels(labels, lambda: scores(images)).tolist())
        loader = DataLoader(PoisonedDataset(TensorDataset(images, labels), scores=scores), batch_size=9)  # type: ignore[arg-type]
        seen.append(torch.cat([batch[1] for batch in loader]).tolist())
        return Message(RecordDict({"arrays": ArrayRecord(net.state_dict())}), reply_to=message)

    return app, seen


def test_mod_for_apps_that_follow_the_convention() -> None:
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
