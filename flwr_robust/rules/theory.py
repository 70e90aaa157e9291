"""Proven and measured robustness coefficients, and how far an aggregate lies from the mean of honest updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Geometry
from flwr_robust.engine.measure import measure
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.base import Rule


def kappa(rule: Rule, n: int, f: int) -> float | None:
    """Return the proven coefficient of (f, kappa)-robustness.

    ``||F(X) - mean_S||^2 <= kappa/|S| sum_S ||x_i - mean_S||^2`` for every set S of n - f rows.

    Source: NNM, Definition 2, Propositions 2 to 5 and Lemma 1; ARC, Theorem 3.2.

    Parameters
    ----------
    rule : Rule
        A rule or chain, made for this f where it takes one.
    n, f : int
        Rows, and malicious ones among them.

    Returns
    -------
    float, or None where no paper proves one for this chain and these numbers.
    """
    if f < 0 or n <= 2 * f:
        return None
    if any(stage.takes_f and stage.resolve_f(n) != f for stage in (*rule.stages, rule.last)):
        return None
    value = rule.last.kappa(n, f)
    for stage in reversed(rule.stages):
        value = None if value is None else stage.kappa_after(value, n, f)
    return value


def empirical_kappa(rule: Rule, X: Any, honest: Sequence[int]) -> float:
    """Return the measured coefficient, ``||F(X) - mean_H|| / sqrt(1/|H| sum_H ||x_i - mean_H||^2)``.

    Source: NNM, equation (26); its square is to be compared with `kappa`.

    Parameters
    ----------
    rule : Rule
        A rule or chain.
    X : (n, d) array
        All rows.
    honest : sequence of int
        Indices of the honest rows.

    Returns
    -------
    float; infinity where the honest rows agree and the output differs from them, 0 where it does not.
    """
    rows = np.asarray(X, dtype=np.float64)
    inside = rows[list(honest)]
    mean = inside.mean(axis=0)
    error = float(np.linalg.norm(np.asarray(rule(X), dtype=np.float64) - mean))
    spread = float(np.sqrt(np.square(inside - mean).sum(axis=1).mean()))
    return error / spread if spread > 0 else (np.inf if error > 0 else 0.0)


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
        """Return ``error / spread`` (NNM (26)), as `empirical_kappa` does."""
        if self.spread > 0:
            return self.error / self.spread
        return np.inf if self.error > 0 else 0.0


def measure_with(updates: Updates, aggregate: FloatArray, threads: int | None = None) -> Geometry:
    """Measure the updates and, as the last row, their aggregate; one pass, and no row is copied."""
    return measure(updates.stacked([aggregate]), threads=threads).geometry


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
