"""How far an aggregate lies from the mean of the honest updates, from one Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flwr_robust.geometry import Geometry
from flwr_robust.passes import measure
from flwr_robust.updates import FloatArray, StackedUpdates, Updates


@dataclass(frozen=True)
class Deviation:
    """An aggregate R beside the honest updates x_i, i in H.

    Attributes
    ----------
    error : float
        ``||R - mean_H||``.
    spread : float
        ``sqrt(1/|H| sum_H ||x_i - mean_H||^2)``.
    mean_norm : float
        ``||mean_H||``.
    """

    error: float
    spread: float
    mean_norm: float

    @property
    def kappa(self) -> float:
        """Return ``error / spread`` (NNM (26)), as `rules.empirical_kappa` does."""
        if self.spread > 0:
            return self.error / self.spread
        return np.inf if self.error > 0 else 0.0


def measure_with(updates: Updates, aggregate: FloatArray, threads: int | None = None) -> Geometry:
    """Measure the updates and, as the last row, their aggregate; one pass, and no row is copied."""
    return measure(StackedUpdates(updates, [aggregate]), threads)[0]


def deviation(rows: Geometry, honest: Sequence[int]) -> Deviation:
    """Compare the last row of `measure_with` with the mean of the honest rows.

    Parameters
    ----------
    rows : Geometry
        From `measure_with`.
    honest : sequence of int
        Indices of at least one honest row.
    """
    points = len(rows.gram)
    mean = np.zeros(points)
    mean[list(honest)] = 1 / len(honest)
    # The last point is the origin, the one before it the aggregate.
    aggregate, origin = np.eye(points)[-2:]
    spreads = [_square(rows, np.eye(points)[row] - mean) for row in honest]
    return Deviation(
        error=_square(rows, aggregate - mean) ** 0.5 * rows.unit,
        spread=float(np.mean(spreads)) ** 0.5 * rows.unit,
        mean_norm=_square(rows, mean - origin) ** 0.5 * rows.unit,
    )


def _square(rows: Geometry, weights: np.ndarray) -> float:
    """Return the squared norm of a weighted sum of the points; the weights add up to zero."""
    return max(float(weights @ rows.gram @ weights), 0.0)
