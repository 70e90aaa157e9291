"""Label flipping: mirrored, and to what the global model finds least probable (LPA 5.1)."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_arrays(dtype):
    labels = np.arange(10, dtype=dtype).reshape(2, 5)
    flipped = attacks.LabelFlip(10).flip(labels)
    assert flipped.dtype == dtype
    np.testing.assert_array_equal(flipped, [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]])
    np.testing.assert_array_equal(labels, np.arange(10).reshape(2, 5))


def test_tensors_lists_and_numbers():
    torch, flip = pytest.importorskip("torch"), attacks.LabelFlip(3)
    tensor = flip.flip(torch.tensor([0, 1, 2], dtype=torch.int16))
    assert tensor.dtype == torch.int16
    assert tensor.tolist() == [2, 1, 0]
    assert flip.flip([0, 2]).tolist() == [2, 0]
    assert flip.flip(0) == 2
    assert flip.flip(torch.tensor(2)).shape == ()
    assert len(flip.flip(np.empty(0, dtype=np.int64))) == 0


def test_twice_is_once_nothing():
    labels = np.random.default_rng(0).integers(0, 26, 100)
    flip = attacks.LabelFlip(26)
    np.testing.assert_array_equal(flip.flip(flip.flip(labels)), labels)


def test_probability_and_seed():
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
def test_wrong_labels(labels):
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2"):
        attacks.LabelFlip(3).flip(labels)


def test_label_that_does_not_fit_its_dtype():
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
def test_wrong_parameters(arguments):
    with pytest.raises(ValueError, match=f"LabelFlip was given {next(iter(arguments))}"):
        attacks.LabelFlip(**{"num_classes": 10, **arguments})


def test_makes_no_updates():
    assert attacks.LabelFlip.knows == "data"
    with pytest.raises(TypeError, match=r"makes no updates; use it .*clients\.mods\.LabelFlip\."):
        attacks.LabelFlip(10)(np.ones((2, 2)), 1)


def test_dynamic_flipping_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    flip = attacks.DynamicLabelFlip()
    assert flip.flip([0, 1, 2], scores).tolist() == [2, 0, 0]
    assert flip.flip(np.array([0, 1, 2], np.uint8), lambda: np.log(scores)).tolist() == [2, 0, 0]
    assert flip.flip(1, scores[1]) == 0
    # A label that is least probable already stays.
    assert flip.flip([2], scores[:1]).tolist() == [2]


def test_dynamic_flipping_with_a_probability():
    scores = np.tile([0.1, 0.9], (4000, 1))
    flipped = attacks.DynamicLabelFlip(0.25, seed=1).flip(np.ones(4000, np.int64), scores)
    assert 900 < int((flipped == 0).sum()) < 1100
    again = attacks.DynamicLabelFlip(0.25, seed=1).flip(np.ones(4000, np.int64), scores)
    np.testing.assert_array_equal(flipped, again)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (None, "was given no scores"),
        (np.ones((2, 3)), r"shape \(2, 3\) for labels of shape \(1,\)"),
        (np.ones(3), "one"),
    ],
)
def test_wrong_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        attacks.DynamicLabelFlip().flip([1], scores)
