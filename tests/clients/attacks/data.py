"""Honest updates, and the papers' moments of them in plain float64."""

from __future__ import annotations

import numpy as np

DTYPES = [np.float32, np.float64]


def draw(rows, columns, dtype=np.float64, seed=0, centre=0.3):
    return np.random.default_rng(seed).normal(centre, 1.0, (rows, columns)).astype(dtype)


def mean_of(honest):
    return honest.astype(np.float64).sum(axis=0) / len(honest)


def std_of(honest, ddof=0):
    if len(honest) == ddof:
        return np.zeros(honest.shape[1])
    wide = honest.astype(np.float64)
    return np.sqrt(((wide - mean_of(honest)) ** 2).sum(axis=0) / (len(honest) - ddof))
