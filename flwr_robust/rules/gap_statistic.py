"""Whether some numbers fall into two clusters, by the gap statistic; and into which, by exact 2-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Weights


def inertias(values: NDArray[np.float64]) -> tuple[Weights, Weights, NDArray[np.int64]]:
    """Return the inertias of one and of two clusters, and how many values are in the lower of two.

    Parameters
    ----------
    values : (r, m) float64 array
        r sets of m numbers, each set sorted.

    Returns
    -------
    Three (r,) arrays. The cut lies between two different values, the lowest of several; equal values have none: 0.
    """
    m = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    one: Weights = np.square(centred).sum(axis=1)
    sizes = np.arange(1, m)
    below = np.cumsum(centred, axis=1)[:, :-1]
    # Sums of the lower part, whose upper part has the same sum but for its sign.
    between = below**2 * (1.0 / sizes + 1.0 / sizes[::-1])
    between[values[:, 1:] <= values[:, :-1]] = -1.0
    best = between.max(axis=1, initial=-1.0)
    first = (between >= best[:, None] * (1 - 1e-12)).argmax(axis=1) if m > 1 else np.zeros(len(values), np.int64)
    cut = np.where(best < 0, 0, first + 1)
    two: Weights = np.array([_within(row[:k]) + _within(row[k:]) for row, k in zip(centred, cut, strict=True)])
    return one, two, cut


def _within(values: NDArray[np.float64]) -> float:
    return float(np.square(values - values.mean()).sum()) if values.size else 0.0


def upper_cluster(values: Weights, references: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which of the values are in the upper of two clusters; none if there is one cluster only.

    Source: Tibshirani, Walther and Hastie, 2001, with as many uniform numbers as values in each reference.
    """
    out = np.zeros(len(values), dtype=bool)
    low, spread = float(values.min()), float(np.ptp(values))
    drawn = np.sort(generator.random((references, len(values))), axis=1)
    if spread == 0.0:
        return out
    order = np.argsort(values, kind="stable")
    one, two, cut = inertias(((values - low) / spread)[order][None])
    expected_one, expected_two, _ = inertias(drawn)
    if two[0] > 0.0:
        deviation = np.sqrt(1.0 + 1.0 / references) * float(np.log(expected_two).std())
        first, second = np.log(expected_one.mean() / one[0]), np.log(expected_two.mean() / two[0])
        if first >= second - deviation:
            return out
    out[order[cut[0] :]] = True
    return out
