"""Proven and measured robustness coefficients, and how far an aggregate lies from the mean of honest updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import measure
from flwr_robust.engine.rows import Geometry
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.base import Rule
from flwr_robust.rules.centered_clipping import CenteredClipping
from flwr_robust.rules.faba import FABA
from flwr_robust.rules.trimmed_mean import TrimmedMean


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


def rho(rule: Rule, n: int, f: int, d: int | None = None) -> float | None:
    """Return the proven contraction constant of a rho-robust aggregator.

    ``||F(X) - mean_H|| <= rho max_H ||x_i - mean_H||``, where H are the n - f honest rows. Under label poisoning LPA's
    learning error is of the order ``rho^2 xi^2``, and that of the plain mean ``(f/n)^2 A^2``: xi is how far the honest
    updates lie from their mean, A how far the poisoned ones do, and with ``A`` of xi's order the mean's is the least
    possible. No rule has a rho below ``min(f/(n - 2f), 1)`` (Lemma 3).

    Source: LPA, Definition 2, Lemmas 8 to 10 and Table 1.

    Parameters
    ----------
    rule : Rule
        TrimmedMean, FABA or CenteredClipping of one iteration, made for this f where it takes one. For the latter rho
        is that of the threshold of Lemma 9, ``tau^2 = 4 (1 - f/n) / (f/n) max_H ||x_i - mean_H||^2``, and of a start no
        farther from the honest mean than an honest row.
    n, f : int
        Rows, and malicious ones among them.
    d : int, optional
        Columns, which TrimmedMean's grows with: by their root, up to that of the honest rows, which counts without d.

    Returns
    -------
    float, or None where LPA proves none for this rule and these numbers.
    """
    if f < 0 or n <= 2 * f or rule.stages or (rule.takes_f and rule.resolve_f(n) != f):
        return None
    share, honest = f / n, n - f
    if type(rule) is TrimmedMean:
        return float(3 * share / (1 - 2 * share) * min(honest if d is None else d, honest) ** 0.5)
    if type(rule) is FABA and n > 3 * f:
        return 2 * share / (1 - 3 * share)
    if type(rule) is CenteredClipping and rule.iterations == 1:
        return float((24 * share) ** 0.5)
    return None


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
    return Geometry.of(measure(updates.stacked([aggregate]), threads=threads))


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
