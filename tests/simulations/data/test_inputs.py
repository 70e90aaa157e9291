"""What models are given: normalisation, mirroring, shifting, numbers of characters."""

import numpy as np
import pytest

from simulations.config.catalog import DATASETS
from simulations.data.inputs import SHIFT, Inputs
from simulations.data.load import load_split


def half_white(count):
    """Images with a bright left edge."""
    images = np.zeros((count, 3, 32, 32), dtype=np.uint8)
    images[..., 0] = 255
    return images


@pytest.mark.parametrize(
    ("dataset", "normalisation", "white"),
    [("mnist", "auto", (1 - 0.1307) / 0.3081), ("mnist", "half", 1.0), ("fashion-mnist", "auto", 1.0)],
)
def test_normalisation_is_the_papers(dataset, normalisation, white):
    pixels = Inputs.of(dataset, normalisation).plain(np.full((1, 1, 28, 28), 255, dtype=np.uint8))
    np.testing.assert_allclose(pixels, white, rtol=1e-6)
    assert pixels.dtype == np.float32


def test_each_channel_has_its_own_normalisation():
    black = Inputs.of("cifar10").plain(np.zeros((1, 3, 32, 32), dtype=np.uint8))
    spec = DATASETS["cifar10"]
    np.testing.assert_allclose(black[0, :, 5, 5], [-m / s for m, s in zip(spec.mean, spec.std, strict=True)], rtol=1e-6)


def test_digits_are_normalised_to_unit_scale():
    images = Inputs.of("digits").plain(load_split("digits", "train").inputs)
    assert abs(images.mean()) < 0.01
    assert abs(images.std() - 1) < 0.01


def test_half_the_training_images_are_mirrored_where_the_papers_do():
    inputs, random = Inputs.of("cifar10"), np.random.default_rng(0)
    drawn = inputs.augmented(half_white(200), random)
    assert 60 < (drawn[:, 0, 0, 0] > drawn[:, 0, 0, -1]).sum() < 140
    assert {name for name in DATASETS if Inputs.of(name).mirror} == {"cifar10", "cifar100", "fashion-mnist"}
    plain = inputs.plain(half_white(200))
    np.testing.assert_array_equal(Inputs.of("cifar10", augment="none").augmented(half_white(200), random), plain)


def test_crops_are_shifted_by_whole_pixels_with_black_at_the_edges():
    images = np.zeros((300, 3, 32, 32), dtype=np.uint8)
    images[..., 10, 15] = 255
    inputs = Inputs.of("cifar10", augment="crop")
    bright = inputs.augmented(images, np.random.default_rng(0))[:, 0] > 0
    assert (bright.sum(axis=(1, 2)) == 1).all()
    _, rows, columns = np.nonzero(bright)
    assert set(rows - 10) == set(range(-SHIFT, SHIFT + 1))
    # A mirrored image has its bright pixel at 31 - 15 = 16.
    assert set(columns) == set(range(15 - SHIFT, 16 + SHIFT + 1))


def test_texts_become_whole_numbers_and_are_not_augmented():
    texts = np.arange(160, dtype=np.uint8).reshape(2, 80) % 87
    for augment in ("auto", "none", "crop"):
        inputs = Inputs.of("shakespeare", augment=augment)
        drawn = inputs.augmented(texts, np.random.default_rng(0))
        assert drawn.dtype == np.int64
        np.testing.assert_array_equal(drawn, texts)
