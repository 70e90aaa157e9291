"""Painted triggers: where they are, in images and texts of all kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients import attacks

CORNERS = {
    "top-left": (slice(1, 3), slice(1, 3)),
    "top-right": (slice(1, 3), slice(4, 6)),
    "bottom-left": (slice(2, 4), slice(1, 3)),
    "bottom-right": (slice(2, 4), slice(4, 6)),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_badnets_corners_and_margin(corner):
    images = np.zeros((2, 5, 7))
    painted = attacks.BadNets(0, size=2, corner=corner, margin=1, value=3.0).trigger(images)
    wanted = np.zeros((2, 5, 7))
    wanted[(slice(None), *CORNERS[corner])] = 3.0
    np.testing.assert_array_equal(painted, wanted)


def test_badnets_a_value_a_channel():
    painted = attacks.BadNets(0, size=1, value=(0.25, -1.0)).trigger(np.zeros((1, 2, 2, 2), dtype=np.float32))
    assert painted[0, :, 1, 1].tolist() == [0.25, -1.0]
    assert np.count_nonzero(painted) == 2


def test_badnets_on_texts_takes_characters():
    texts = np.arange(12).reshape(2, 6)
    painted = attacks.BadNets(0, size=2, value=90).trigger(texts)
    np.testing.assert_array_equal(painted, [[0, 1, 2, 3, 90, 90], [6, 7, 8, 9, 90, 90]])
    np.testing.assert_array_equal(
        attacks.BadNets(0, size=1, value=90, corner="top-left").trigger(texts)[:, 0], [90, 90]
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_dtypes_are_kept(dtype):
    images = np.ones((1, 4, 4), dtype=dtype)
    assert attacks.BadNets(0).trigger(images).dtype == dtype
    assert attacks.Blended(0).trigger(images).dtype == dtype


@pytest.mark.parametrize("value", [0.5, 300, -1])
def test_a_value_that_the_dtype_cannot_hold(value):
    with pytest.raises(ValueError, match="cannot write its value as uint8"):
        attacks.BadNets(0, value=value).trigger(np.zeros((1, 4, 4), dtype=np.uint8))


@pytest.mark.parametrize(
    ("attack", "shape", "message"),
    [
        (attacks.BadNets(0, size=5), (1, 4, 8), "does not fit into 4 pixels"),
        (attacks.BadNets(0, size=3, margin=2), (1, 8, 4), "does not fit into 4 pixels"),
        (attacks.BadNets(0, size=3, margin=2, corner="top-left"), (1, 8, 4), "does not fit into 4 pixels"),
        (attacks.BadNets(0, value=(1.0, 2.0)), (1, 3, 8, 8), "2 values for 3 channels"),
        (attacks.BadNets(0), (1, 2, 3, 8, 8), "give images"),
        (attacks.DBA(0), (1, 8, 8), "bar 1 needs 1 x 10"),
        (attacks.DBA(0, width=1, gap=1, parts=5), (1, 3, 3), "bar 4 needs 5 x 1"),
        (attacks.DBA(0), (1, 80), "give images"),
        (attacks.Blended(0, pattern=np.zeros((4, 4))), (1, 1, 4, 4), r"pattern of shape \(4, 4\)"),
    ],
)
def test_what_does_not_fit(attack, shape, message):
    with pytest.raises(ValueError, match=message):
        attack.trigger(np.zeros(shape))


def test_blended_by_hand():
    pattern = np.array([[1.0, 3.0]])
    blended = attacks.Blended(0, pattern=pattern, alpha=0.25).trigger(np.array([[[2.0, 2.0]]]))
    np.testing.assert_allclose(blended, [[[1.75, 2.25]]])
    rounded = attacks.Blended(0, pattern=pattern, alpha=0.25).trigger(np.array([[[2, 3]]], dtype=np.uint8))
    np.testing.assert_array_equal(rounded, [[[2, 3]]])  # 1.75 and 3


def test_blended_has_one_pattern_for_all():
    images = np.zeros((3, 1, 4, 4))
    one, other = (attacks.Blended(0, alpha=1.0, seed=seed).trigger(images) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[0], one[2])
    assert one.min() >= 0
    assert one.max() < 1
    assert len(np.unique(one[0])) == 16


def dba_pixels(part, attack, shape):
    """The bar's pixels, as the definition writes them."""
    top = part // 2 * (attack.height + attack.gap) + attack.shift
    left = part % 2 * (attack.width + attack.gap) + attack.shift
    image = np.zeros(shape)
    for row in range(top, top + attack.height):
        for column in range(left, left + attack.width):
            image[row, column] = attack.value
    return image


@pytest.mark.parametrize("attack", [attacks.DBA(1), attacks.DBA(1, width=6, gap=3, shift=2, height=2, value=2.0)])
def test_dba_parts_and_whole(attack):
    shape, labels = (20, 20), np.zeros(3, dtype=int)
    images = np.zeros((3, *shape))
    bars = [dba_pixels(part, attack, shape) for part in range(4)]
    np.testing.assert_array_equal(attack.trigger(images)[0], sum(bars))
    whole = replace(attack, fraction=1.0)
    for part in range(6):
        poisoned, false = whole.poison(images, labels, part=part)
        np.testing.assert_array_equal(poisoned[0], bars[part % 4])
        assert false.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(whole.poison(images, labels)[0][0], sum(bars))


def test_dba_defaults_are_the_papers_for_mnist():
    rows, columns = np.nonzero(attacks.DBA(0).trigger(np.zeros((1, 28, 28)))[0])
    assert sorted(set(rows.tolist())) == [0, 3]
    assert sorted(set(columns.tolist())) == [0, 1, 2, 3, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("badnets", {"size": 0}),
        ("badnets", {"margin": -1}),
        ("badnets", {"corner": "middle"}),
        ("badnets", {"value": np.inf}),
        ("badnets", {"value": (1.0, "x")}),
        ("badnets", {"value": True}),
        ("badnets", {"source": -1}),
        ("blended", {"alpha": 1.5}),
        ("blended", {"pattern": np.array([np.nan])}),
        ("dba", {"parts": 0}),
        ("dba", {"width": 0}),
        ("dba", {"height": 1.5}),
        ("dba", {"gap": -1}),
        ("dba", {"shift": -1}),
    ],
    ids=str,
)
def test_wrong_values(name, wrong):
    with pytest.raises(ValueError, match="was given"):
        attacks.from_spec(name, {"target": 0, **wrong})
