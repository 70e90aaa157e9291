"""Gaussian noise on an aggregate."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray

# Values that get their noise at a time.
CHUNK = 2**16


def add_noise(vector: FloatArray, std: float, generator: np.random.Generator) -> None:
    """Add ``N(0, std^2)`` to each value, within the range of its dtype."""
    largest = float(np.finfo(vector.dtype).max)
    for start in range(0, vector.size if std else 0, CHUNK):
        part = vector[start : start + CHUNK]
        with np.errstate(over="ignore"):
            part[:] = np.clip(part + std * generator.standard_normal(part.size), -largest, largest)
