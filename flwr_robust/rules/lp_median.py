"""The point with the least sum of lp distances to the rows, by Newton's method over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Matrix, Weights
from flwr_robust.engine.lp import distances_to
from flwr_robust.engine.passes import zeros
from flwr_robust.engine.rows import Rows

# In typical distances, one after the other: ten times less each, so that Newton's method keeps track of the kinks.
SMOOTHINGS = (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
# What smoothing adds to the sum, as a share of the typical distance, below which less of it would change nothing.
INSENSITIVE = 1e-9
# Differences below this share of a row's distance count as large as it, where their curvature would be infinite.
FLOOR = 1e-5
RIDGE = 1e-10
# Lengths of a step that are tried in one pass, once Newton's own has failed.
TRIED = 5
# The slope at which the last search stops, in tolerances: it falls slowly where the order is high or below 2.
TIGHT = 1e-4
LONGEST, SHORTEST = 1e9, 1e-15
# A step is long enough where the slope is at most this share of what it was.
FLAT = 0.5
# Values that y is moved by at a time, which costs their float64 copies.
PIECE = 2**16

# The largest differences, and sums of their powers: lengths by rows.
_Tried = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def lp_median(rows: Rows, start: FloatArray, p: float, tol: float, max_iterations: int) -> FloatArray:
    """Minimise ``sum_i ||y - x_i||_p`` over y, for a finite p above 1.

    The distances are smoothed, ``(||y - x_i||_p^p + mu^p)^(1/p)`` with ever smaller mu, so that rows that coincide, or
    nearly so, do not hold y. The Hessian of their sum is diagonal but for one vector a row: Newton's direction takes
    one pass for an (m, m) matrix, and one more for each try of how far to go along it.

    Parameters
    ----------
    rows : Rows
        m rows.
    start : (d,) array
        Where to begin; overwritten.
    p : float
        Order of the norm.
    tol : float
        Stop where a small part of it, as a share of the sum, is left to gain.
    max_iterations : int
        Passes at most.
    """
    search = _Search(rows, start, p, max_iterations)
    typical = float(np.median(search.distances))
    for share in SMOOTHINGS if typical else ():
        last = share == SMOOTHINGS[-1] or search.gap(share * typical) <= INSENSITIVE * rows.count * typical
        enough = rows.count * (TIGHT * tol if last else min(1e-3, share**2))
        while search.passes < max_iterations and search.step(share * typical, typical) > enough:
            pass
        if last and search.gap(share * typical) <= INSENSITIVE * rows.count * typical:
            break
    return search.y


class _Search:
    """Newton's method for the sum of smoothed lp distances.

    Only slopes are compared, never the sums themselves, in which what makes honest rows different would drown beside a
    row that is far away.
    """

    def __init__(self, rows: Rows, y: FloatArray, p: float, max_passes: int) -> None:
        self.rows, self.y, self.p, self.max_passes = rows, y, p, max_passes
        self.distances = distances_to(rows, lambda block, first: _part(y, block, first), p)
        self.passes = 1

    def smoothed(self, distances: Weights, smoothing: float) -> Weights:
        """Distances to the rows, none of them below the smoothing."""
        largest = np.maximum(distances, smoothing)
        powers = (distances / largest) ** self.p + (smoothing / largest) ** self.p
        smooth: Weights = largest * powers ** (1.0 / self.p)
        return smooth

    def gap(self, smoothing: float) -> float:
        """How much smoothing adds to the sum of distances."""
        return float((self.smoothed(self.distances, smoothing) - self.distances).sum())

    def step(self, smoothing: float, unit: float) -> float:
        """Move along Newton's direction to where the sum hardly falls any more.

        Returns
        -------
        How steeply it fell at first, in units; zero where it does not fall, or no passes are left.
        """
        smooth = self.smoothed(self.distances, smoothing)
        weights, first = self._newton(smooth, unit)
        direction = np.zeros_like(self.y)
        if not first > 0.0:
            return 0.0

        def point(block: FloatArray, start: int) -> None:
            gradients, inverse = self._terms(block, start, smooth, unit)
            direction[start : start + block.shape[1]] = -unit * inverse * (weights @ gradients)

        bracket, lengths = (0.0, np.inf), np.ones(1)
        while self.passes < self.max_passes:
            distances, slopes = self._try(lengths, direction, smoothing, point)
            best = int(np.argmin(np.abs(slopes)))
            if abs(slopes[best]) <= FLAT * first * unit:
                _move(self.y, lengths[best], direction)
                self.distances = distances[best]
                return first
            point = _nothing
            bracket = _narrowed(bracket, lengths, slopes)
            lengths = _between(*bracket)
            if not SHORTEST < lengths[0] < LONGEST:
                break
        return 0.0

    def _newton(self, smooth: Weights, unit: float) -> tuple[Weights, float]:
        """Weights of the rows' gradients in Newton's direction, by the Woodbury identity; and how steep it is."""
        count = self.rows.count

        def add(block: FloatArray, start: int, products: Matrix) -> None:
            gradients, inverse = self._terms(block, start, smooth, unit)
            products += (gradients * inverse) @ gradients.T

        products = self.rows.scan(add, zeros(count, count), dtype=np.float64)
        self.passes += 1
        roots, pull = np.sqrt((self.p - 1.0) * unit / smooth), products.sum(axis=1)
        system = (1.0 + RIDGE) * np.eye(count) - roots[:, None] * products * roots[None, :]
        weights: Weights = 1.0 + roots * np.linalg.solve(system, roots * pull)
        return weights, float(pull @ weights)

    def _terms(self, block: FloatArray, start: int, smooth: Weights, unit: float) -> tuple[FloatArray, Weights]:
        """Gradients of the distances in a block, and one over the diagonal of their Hessian, in units."""
        differences = _part(self.y, block, start) - block
        share = np.abs(differences) / smooth[:, None]
        # Below 2 twice the slope of a chord bounds the second derivative, which a step of Newton's would overshoot.
        curved = np.maximum(share, FLOOR if self.p < 2 else 0.0) ** (self.p - 2.0)
        diagonal = (max(1.0, self.p - 1.0) * unit / smooth) @ curved
        steep = share * curved if self.p >= 2 else share ** (self.p - 1.0)
        return np.copysign(steep, differences), np.divide(
            1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0
        )

    def _try(
        self, lengths: Weights, direction: FloatArray, smoothing: float, prepare: Callable[[FloatArray, int], None]
    ) -> tuple[Matrix, Weights]:
        """Distances of the rows (lengths, m), and the slope of their sum, at points along a direction; one pass."""

        def add(block: FloatArray, start: int, found: _Tried) -> None:
            prepare(block, start)
            along = _part(direction, block, start)
            for at, length in enumerate(lengths):
                moved = self.y[start : start + block.shape[1]].copy()
                _move(moved, length, along)
                differences = moved.astype(np.float64) - block
                largest = np.abs(differences).max(axis=1, initial=0.0)
                share = np.abs(differences) / np.where(largest > 0.0, largest, 1.0)[:, None]
                powers = share ** (self.p - 1.0)
                slopes: Weights = np.copysign(powers, differences) @ along
                self._merge([part[at] for part in found], (largest, (powers * share).sum(axis=1), slopes))

        shape = (len(lengths), self.rows.count)
        largest, sums, relative = self.rows.scan(
            add, lambda _: (np.zeros(shape), np.zeros(shape), np.zeros(shape)), self._merge, dtype=np.float64
        )
        self.passes += 1
        distances: Matrix = largest * sums ** (1.0 / self.p)
        smooth = self.smoothed(distances, smoothing)
        return distances, (relative * (largest / smooth) ** (self.p - 1.0)).sum(axis=1)

    def _merge(self, total: Sequence[NDArray[np.float64]], found: Sequence[NDArray[np.float64]]) -> None:
        """Add sums of powers, and of powers one lower, to others, each relative to its own largest differences."""
        largest = np.maximum(total[0], found[0])
        safe = np.where(largest > 0.0, largest, 1.0)
        before, here = total[0] / safe, found[0] / safe
        for place, power in ((1, self.p), (2, self.p - 1.0)):
            total[place][...] = total[place] * before**power + found[place] * here**power
        total[0][...] = largest


def _part(vector: FloatArray, block: FloatArray, start: int) -> Weights:
    """Return the values of a vector in a block's columns, in float64."""
    part: Weights = vector[start : start + block.shape[1]].astype(np.float64)
    return part


def _move(y: FloatArray, length: float, direction: FloatArray) -> None:
    """Add so much of a direction to y, piece by piece, rounded alike wherever pieces end."""
    for start in range(0, y.size, PIECE):
        piece = slice(start, start + PIECE)
        y[piece] += (length * direction[piece].astype(np.float64)).astype(y.dtype)


def _narrowed(bracket: tuple[float, float], lengths: Weights, slopes: Weights) -> tuple[float, float]:
    """Return the lengths between which a slope that never falls becomes zero, as far as it is known."""
    low, high = bracket
    return max([low, *lengths[slopes < 0.0]]), min([high, *lengths[slopes >= 0.0]])


def _between(low: float, high: float) -> Weights:
    """Return lengths to try between two, which may be zero and infinity."""
    places = np.arange(1.0, TRIED + 1)
    if high == np.inf:
        lengths = low * 4.0**places
    elif low == 0.0:
        lengths = high / 4.0 ** places[::-1]
    else:
        lengths = low * (high / low) ** (places / (TRIED + 1))
    return np.asarray(lengths, dtype=np.float64)


def _nothing(block: FloatArray, start: int) -> None:
    """Prepare nothing: the direction is known."""
