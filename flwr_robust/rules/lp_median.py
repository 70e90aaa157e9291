"""The point with the least sum of lp distances to the rows, by reweighted means over the data."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Weights
from flwr_robust.engine.lp import distances_to
from flwr_robust.engine.rows import Rows


def lp_median(rows: Rows, start: FloatArray, p: float, tol: float, max_iterations: int) -> FloatArray:
    """Minimise ``sum_i ||y - x_i||_p`` over y, for a finite p above 1.

    Each step moves y towards the mean of the rows with weights ``|y_k - x_ik|^(p-2) / ||y - x_i||_p^(p-1)``
    in coordinate k, whose fixed points are the minimisers; a step that raises the sum is halved.

    Parameters
    ----------
    rows : Rows
        m rows.
    start : (d,) array
        Where to begin.
    p : float
        Order of the norm.
    tol : float
        Stop when a step lowers the sum by less than a thousandth of this fraction.
    max_iterations : int
        Passes at most.
    """
    y, distances = start, _distances(rows, start, p)
    # For p > 2 the full step overshoots by the factor p - 1 (as Newton's method on |x|^p shows).
    length = full = 1.0 if p <= 2 else 1.0 / (p - 1.0)
    for _ in range(max_iterations):
        now = float(distances.sum())
        typical = float(np.median(distances))
        if typical == 0.0:
            break
        new, new_distances = _move(rows, y, np.maximum(distances, 1e-9 * typical), p, length)
        gain = now - float(new_distances.sum())
        if gain < 0.0:
            length /= 2.0
            if length < full * 1e-3:
                break
            continue
        y, distances, length = new, new_distances, min(full, 2.0 * length)
        if gain <= 1e-3 * tol * now:
            break
    return y


def _distances(rows: Rows, y: FloatArray, p: float) -> Weights:
    """Return the lp distance of each row to y; one pass."""
    return distances_to(rows, lambda block, start: y[start : start + block.shape[1]].astype(np.float64), p)


def _move(rows: Rows, y: FloatArray, distances: Weights, p: float, length: float) -> tuple[FloatArray, Weights]:
    """Return y after a step, and the rows' distances to it; one pass."""
    new = np.empty_like(y)

    def step(block: FloatArray, start: int) -> Weights:
        here = slice(start, start + block.shape[1])
        old = y[here].astype(np.float64)
        # Relative to each row's distance the powers stay between 0 and 1 for p > 2; for p < 2 the floor
        # keeps a coordinate on a row's own value from holding y there for ever.
        share = np.abs(old - block) / distances[:, None]
        weights = np.maximum(share, 1e-12) ** (p - 2.0) / distances[:, None]
        total = weights.sum(axis=0)
        mean = np.divide((weights * block).sum(axis=0), total, out=old.copy(), where=total > 0)
        new[here] = old + length * (mean - old)
        return new[here].astype(np.float64)

    return new, distances_to(rows, step, p)
