"""From stored samples to what a model is given: normalised and mirrored images, numbers of characters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from simulations.config.catalog import DATASETS, DatasetSpec, normalisation_of

Stored = npt.NDArray[np.uint8]

# Pixels by which `crop` shifts.
SHIFT = 4


@dataclass(frozen=True)
class Inputs:
    """How a run reads its samples."""

    spec: DatasetSpec
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Of each channel."""
    mirror: bool = False
    crop: bool = False
    """What happens to training images at random."""

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, dataset: str, normalisation: str = "auto", augment: str = "auto") -> Self:
        """Return how a run with these parameters reads its samples (see `simulations.config.catalog`)."""
        spec = DATASETS[dataset]
        mean, std = normalisation_of(spec, normalisation)
        crop = augment == "crop" and not spec.is_text
        return cls(spec, mean, std, mirror=crop or (augment == "auto" and spec.flips), crop=crop)

    def plain(self, stored: Stored) -> npt.NDArray[Any]:
        """Return images scaled to [0, 1], minus each channel's mean, over its deviation; texts as numbers."""
        if self.spec.is_text:
            return stored.astype(np.int64)
        mean, std = (np.asarray(value, dtype=np.float32).reshape(1, -1, 1, 1) for value in (self.mean, self.std))
        return (stored.astype(np.float32) / np.float32(self.spec.scale) - mean) / std

    def augmented(self, stored: Stored, random: np.random.Generator) -> npt.NDArray[Any]:
        """Return the same with training images mirrored and shifted at random, where that is on."""
        inputs = self.plain(stored)
        if self.mirror:
            mirrored = random.random(len(inputs)) < 0.5
            inputs[mirrored] = inputs[mirrored, :, :, ::-1]
        return self._shifted(inputs, random) if self.crop else inputs

    def _shifted(self, images: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[Any]:
        """Return each image shifted, with black at the edges."""
        height, width = images.shape[2:]
        black = (-np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)).reshape(1, -1, 1, 1)
        framed = np.pad(images - black, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))) + black
        corners = random.integers(0, 2 * SHIFT + 1, (len(images), 2))
        return np.stack(
            [frame[:, y : y + height, x : x + width] for frame, (y, x) in zip(framed, corners, strict=True)]
        )
