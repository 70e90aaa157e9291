"""Distances and norms of the rows of a chain, from one Gram matrix and without the data.

After a linear pre-aggregation the rows are ``y_i = sum_j A_ij p_j``: affine combinations (the weights of a
row add up to one) of the n updates and of the origin, which stands for zero, so that clipping is affine too.
Every distance then follows from the Gram matrix of the points.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Weights = NDArray[np.float64]

# Values that differ by less than this relative amount are a tie, which the lowest index wins: mutual
# nearest neighbours, or rows clipped to one norm, tie exactly, and rounding must not choose between them.
TIE = 1e-13
# Relative error of squared distances beyond which rows have to be measured as they are.
BLUR = 1e-6


class Needs(IntEnum):
    """What a stage must know of its rows before it can plan."""

    NOTHING = 0
    NORMS = 1
    DISTANCES = 2


class UnmeasuredError(ValueError):
    """Something was read that was not measured, since nobody had declared a need for it.

    Attributes
    ----------
    needs : Needs
        What must be declared.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        super().__init__(f"{needs.name.lower()} were not measured.")


class Geometry:
    """m rows that are affine combinations of points whose Gram matrix is known.

    Parameters
    ----------
    gram : (p, p) float64 array
        Inner products of the points, each taken relative to one common reference point.
        The last point is the origin; the others are the updates.
    affine : (m, p) float64 array, optional
        Weights of the rows, each row adding up to one. By default the rows are the updates.
    unit : float
        The points are in multiples of this number: it keeps squares of huge float64 values finite.
    measured : Needs
        What the Gram matrix tells: of norms alone it has the diagonal. What was not measured cannot be read.
    """

    def __init__(
        self, gram: Matrix, affine: Matrix | None = None, unit: float = 1.0, measured: Needs = Needs.DISTANCES
    ) -> None:
        self.gram = gram
        self.affine = np.eye(len(gram) - 1, len(gram)) if affine is None else affine
        self.unit = unit
        self.measured = measured

    @property
    def count(self) -> int:
        """Number of rows, m."""
        return len(self.affine)

    def first(self, count: int) -> Geometry:
        """Return the first rows alone; the points stay."""
        return Geometry(self.gram, self.affine[:count], self.unit, self.measured)

    @property
    def mixing(self) -> Matrix:
        """(m, p - 1) matrix that makes the rows out of the updates."""
        return self.affine[:, :-1]

    @cached_property
    def inner(self) -> Matrix:
        """(m, m) inner products of the rows, relative to a point in their midst."""
        self._require(Needs.DISTANCES)
        # What most rows share drops out first: nothing that they hold in common, a huge
        # hostile update say, then swamps what tells them apart.
        shifted = self.affine - np.median(self.affine, axis=0)
        inner = shifted @ self.gram @ shifted.T
        return (inner + inner.T) / 2

    @cached_property
    def squared_distances(self) -> Matrix:
        """(m, m) squared Euclidean distances, in squared units; symmetric, zero on the diagonal."""
        return _squared_distances(self.inner)

    @cached_property
    def inner_from_origin(self) -> Matrix:
        """(m, m) inner products of the rows, relative to zero."""
        self._require(Needs.DISTANCES)
        from_origin = self._from_origin
        inner = from_origin @ self.gram @ from_origin.T
        return (inner + inner.T) / 2

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """(m,) Euclidean norms of the rows, in units."""
        self._require(Needs.NORMS)
        from_origin = self._from_origin
        squares: NDArray[np.float64] = ((from_origin @ self.gram) * from_origin).sum(axis=1)
        return np.sqrt(np.maximum(squares, 0.0))

    @property
    def _from_origin(self) -> Matrix:
        """(m, p) weights of the differences between the rows and the origin; they add up to zero."""
        weights = self.affine.copy()
        weights[:, -1] -= 1.0
        return weights

    @property
    def is_blurred(self) -> bool:
        """Whether what cancels in the rows leaves rounding where most distances should be."""
        if self.measured is not Needs.DISTANCES:
            return False
        shifted = np.abs(self.affine - np.median(self.affine, axis=0))
        error = np.finfo(np.float64).eps * float((shifted @ np.sqrt(self.gram.diagonal())).max(initial=0.0)) ** 2
        return bool(error > BLUR * np.median(self.squared_distances))

    def _require(self, needs: Needs) -> None:
        if self.measured < needs:
            raise UnmeasuredError(needs)

    def with_distances(self, squared_distances: Matrix) -> Geometry:
        """Return the same rows with these squared distances, of another norm, in place of the Euclidean ones."""
        rows = Geometry(self.gram, self.affine, self.unit, self.measured)
        # A cached property reads its value from the instance's dictionary.
        rows.__dict__["squared_distances"] = squared_distances
        return rows

    def mix(self, matrix: Matrix) -> Geometry:
        """Rows ``matrix @ rows``; the rows of `matrix` (k, m) must add up to one."""
        # The norms of mixed rows follow from inner products, not from norms.
        measured = self.measured if self.measured is Needs.DISTANCES else Needs.NOTHING
        return Geometry(self.gram, matrix @ self.affine, self.unit, measured)

    def scale(self, factors: NDArray[np.float64]) -> Geometry:
        """Each row times its factor."""
        affine = self.affine * factors[:, None]
        affine[:, -1] += 1.0 - factors
        return Geometry(self.gram, affine, self.unit, self.measured)


def _squared_distances(inner: Matrix) -> Matrix:
    squares = inner.diagonal()
    distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * inner, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def central_row(gram: Matrix) -> tuple[int, float]:
    """Return the row that half of the others are closest to, and how close they are.

    Fewer than half of the rows, wherever they are, can neither hide nor feign this by much.

    Parameters
    ----------
    gram : (n, n) float64 array
        Inner products of at least two rows, relative to zero.

    Returns
    -------
    The row, and the squared distance within which half of the others lie over its squared norm
    (1 where that norm is zero).
    """
    closeness = np.sort(_squared_distances(gram), axis=1)[:, len(gram) // 2]
    row = int(np.argmin(closeness))
    square = float(gram[row, row])
    return row, float(closeness[row]) / square if square > 0 else 1.0


def clip_factors(norms: Weights, threshold: float) -> Weights:
    """Return ``min(1, C / ||x||)`` for each norm (ARC, section 3)."""
    factors = np.ones(len(norms))
    long = norms > threshold
    factors[long] = threshold / norms[long]
    return factors


def lowest(values: Weights, count: int) -> list[int]:
    """Return the indices of the `count` lowest values; ties, which rounding hides, go to the lower index."""
    last = np.partition(values, count - 1)[count - 1]
    slack = TIE * abs(last)
    certain = np.flatnonzero(values < last - slack)
    tied = np.flatnonzero(np.abs(values - last) <= slack)
    return [*certain.tolist(), *tied.tolist()][:count]
