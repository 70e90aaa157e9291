"""Moments and distances of rows, accumulated in float64 without a float64 copy of the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]
# A block of 50 rows is then about 13 MB in float64.
BLOCK = 32_768


def column_blocks(columns: int) -> Iterator[slice]:
    """Yield slices that cover the columns in order."""
    for start in range(0, columns, BLOCK):
        yield slice(start, min(start + BLOCK, columns))


def column_means(rows: Matrix) -> Vector:
    """Return the (d,) mean of the rows of an (m, d) matrix."""
    means = np.empty(rows.shape[1])
    for block in column_blocks(rows.shape[1]):
        means[block] = rows[:, block].mean(axis=0, dtype=np.float64)
    return means


def column_deviations(rows: Matrix, ddof: int, means: Vector) -> Vector:
    """Return the (d,) standard deviation of the rows, with divisor ``m - ddof``; zeros where that is 0."""
    deviations = np.zeros(rows.shape[1])
    divisor = len(rows) - ddof
    if divisor > 0:
        for block in column_blocks(rows.shape[1]):
            centred = rows[:, block] - means[block]
            deviations[block] = np.sqrt(np.einsum("ij,ij->j", centred, centred) / divisor)
    return deviations


def inner_products(rows: Matrix, centre: Vector, *further: Vector) -> NDArray[np.float64]:
    """Return the Gram matrix of the centred rows and, below them, of further vectors as they are."""
    gram = np.zeros((len(rows) + len(further),) * 2)
    for block in column_blocks(rows.shape[1]):
        stack = np.vstack([rows[:, block] - centre[block], *(vector[block] for vector in further)])
        gram += stack @ stack.T
    return gram
