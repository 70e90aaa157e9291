"""LabelFlip on labels, and poisoned data sets under torch's DataLoader."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from clients import PoisonedDataset, attacks, poisoned_labels
from clients.data import poison

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402 - needs torch


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_arrays(dtype: Any) -> None:
    labels = np.arange(10, dtype=dtype).reshape(2, 5)
    flipped = attacks.LabelFlip(10).flip(labels)
    assert flipped.dtype == dtype
    np.testing.assert_array_equal(flipped, [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]])
    np.testing.assert_array_equal(labels, np.arange(10).reshape(2, 5))


def test_tensors_lists_and_numbers() -> None:
    flip = attacks.LabelFlip(3)
    tensor = flip.flip(torch.tensor([0, 1, 2], dtype=torch.int16))
    assert tensor.dtype == torch.int16
    assert tensor.tolist() == [2, 1, 0]
    assert flip.flip([0, 2]).tolist() == [2, 0]  # type: ignore[attr-defined]
    assert flip.flip(0) == 2
    assert flip.flip(torch.tensor(2)).shape == ()
    assert len(flip.flip(np.empty(0, dtype=np.int64))) == 0


def test_twice_is_once_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 26, 100)
    flip = attacks.LabelFlip(26)
    np.testing.assert_array_equal(flip.flip(flip.flip(labels)), labels)


def test_probability_and_seed() -> None:
    labels = np.zeros(10_000, dtype=np.int64)
    flip = attacks.LabelFlip(2, probability=0.3, seed=5)
    first, second = flip.flip(labels), flip.flip(labels)
    assert abs(first.mean() - 0.3) < 0.03  # six standard deviations
    assert (first != second).any()
    flip.reset()
    np.testing.assert_array_equal(flip.flip(labels), first)
    np.testing.assert_array_equal(attacks.LabelFlip(2, 0.3, 5).flip(labels), first)
    assert not attacks.LabelFlip(2, probability=0.0).flip(labels).any()


@pytest.mark.parametrize("labels", [[0, 3], [-1], [0.5], ["a"], [True]])
def test_wrong_labels(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2"):
        attacks.LabelFlip(3).flip(labels)


def test_label_that_does_not_fit_its_dtype() -> None:
    with pytest.raises(ValueError, match="wider dtype"):
        attacks.LabelFlip(1000).flip(np.array([3], dtype=np.uint8))


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 1},
        {"num_classes": 2.5},
        {"probability": 1.1},
        {"probability": "x"},
        {"seed": -1},
        {"seed": 0.5},
    ],
)
def test_wrong_parameters(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"LabelFlip was given {next(iter(arguments))}"):
        attacks.LabelFlip(**{"num_classes": 10, **arguments})


def test_makes_no_updates() -> None:
    assert attacks.LabelFlip.knows == "data"
    with pytest.raises(TypeError, match=r"makes no updates; use it .*clients\.mods\.LabelFlip\."):
        attacks.LabelFlip(10)(np.ones((2, 2)), 1)


def tensors(count: int = 12) -> TensorDataset:
    return TensorDataset(torch.arange(count).float()[:, None], torch.arange(count) % 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_dataset_in_a_data_loader(workers: int) -> None:
    loader = DataLoader(PoisonedDataset(tensors(), attacks.LabelFlip(3)), batch_size=5, num_workers=workers)
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert x[:, 0].tolist() == list(range(12))
    assert y.dtype == torch.int64
    assert y.tolist() == [2 - i % 3 for i in range(12)]


def test_same_samples_are_flipped_every_time() -> None:
    dataset = TensorDataset(torch.zeros(400, 1), torch.zeros(400, dtype=torch.int64))
    one, two = (PoisonedDataset(dataset, attacks.LabelFlip(2, 0.5, seed=3)) for _ in range(2))
    labels = [int(one[i][1]) for i in range(400)]
    assert labels == [int(one[i][1]) for i in range(400)] == [int(two[i][1]) for i in range(400)]
    assert 150 < sum(labels) < 250


def test_items_of_all_kinds() -> None:
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


def test_dataset_errors() -> None:
    with pytest.raises(ValueError, match="map-style"):
        PoisonedDataset(iter([1]), attacks.LabelFlip(3))
    with pytest.raises(ValueError, match="give a LabelFlip or DynamicLabelFlip"):
        PoisonedDataset([("x", 1)], attacks.SignFlip())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="found 0 of the label keys"):
        PoisonedDataset([{"image": 1}], attacks.LabelFlip(3))[0]
    with pytest.raises(ValueError, match="found 2 of the label keys"):
        PoisonedDataset([{"label": 1, "y": 1}], attacks.LabelFlip(3))[0]


def test_convention_changes_nothing_without_the_mod() -> None:
    labels = np.array([0, 1])
    assert poisoned_labels(labels) is labels
    assert PoisonedDataset([("x", 3)])[0] == ("x", 3)
    with poison(attacks.LabelFlip(10)):
        assert poisoned_labels(labels).tolist() == [9, 8]
        dataset = PoisonedDataset([("x", 3)])
    assert poisoned_labels(labels) is labels
    assert dataset[0] == ("x", 6)
