"""Gram matrices, weighted sums and mixed rows of blocks of columns, added up in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Columns of a pair of rows that are multiplied at a time: four pairs stay in the first-level cache.
STRIP = 1024
# Sums may be split and reordered, which lets them be vectorised; NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract"}


@njit(nogil=True, cache=True, fastmath=SUMS)
def squared_norms(block: NDArray[Any], out: NDArray[np.float64]) -> None:
    """Add each row's sum of squares to ``out`` (rows,), in float64; NaN and infinity show up in it."""
    for i in range(block.shape[0]):
        row = block[i]
        total = 0.0
        for c in range(row.size):
            total += np.float64(row[c]) * np.float64(row[c])
        out[i] += total


def largest(block: NDArray[Any], out: NDArray[np.float64]) -> None:
    """Keep each row's largest absolute value so far in ``out`` (rows,); NaN and infinity come through."""
    np.maximum(out, np.abs(block).max(axis=1, initial=0.0), out=out)


def store(block: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy the block into ``out``."""
    out[:] = block


@njit(nogil=True, cache=True, fastmath=SUMS)
def add_gram(block: NDArray[Any], gram: NDArray[np.float64]) -> None:
    """Add ``block @ block.T`` to ``gram`` (rows, rows), on and above the diagonal, in float64.

    Four rows by four: sixteen sums share eight loads and stay in registers. That is faster than BLAS for so few
    rows of so many columns, and needs no float64 copy of float32 rows.
    """
    rows, columns = block.shape
    whole = rows - rows % 4
    for start in range(0, columns, STRIP):
        stop = min(start + STRIP, columns)
        for i in range(0, whole, 4):
            a0, a1 = block[i, start:stop], block[i + 1, start:stop]
            a2, a3 = block[i + 2, start:stop], block[i + 3, start:stop]
            for j in range(i, whole, 4):
                b0, b1 = block[j, start:stop], block[j + 1, start:stop]
                b2, b3 = block[j + 2, start:stop], block[j + 3, start:stop]
                t00 = t01 = t02 = t03 = 0.0
                t10 = t11 = t12 = t13 = 0.0
                t20 = t21 = t22 = t23 = 0.0
                t30 = t31 = t32 = t33 = 0.0
                for c in range(stop - start):
                    x0, x1 = np.float64(a0[c]), np.float64(a1[c])
                    x2, x3 = np.float64(a2[c]), np.float64(a3[c])
                    y0, y1 = np.float64(b0[c]), np.float64(b1[c])
                    y2, y3 = np.float64(b2[c]), np.float64(b3[c])
                    t00 += x0 * y0
                    t01 += x0 * y1
                    t02 += x0 * y2
                    t03 += x0 * y3
                    t10 += x1 * y0
                    t11 += x1 * y1
                    t12 += x1 * y2
                    t13 += x1 * y3
                    t20 += x2 * y0
                    t21 += x2 * y1
                    t22 += x2 * y2
                    t23 += x2 * y3
                    t30 += x3 * y0
                    t31 += x3 * y1
                    t32 += x3 * y2
                    t33 += x3 * y3
                gram[i, j] += t00
                gram[i, j + 1] += t01
                gram[i, j + 2] += t02
                gram[i, j + 3] += t03
                gram[i + 1, j] += t10
                gram[i + 1, j + 1] += t11
                gram[i + 1, j + 2] += t12
                gram[i + 1, j + 3] += t13
                gram[i + 2, j] += t20
                gram[i + 2, j + 1] += t21
                gram[i + 2, j + 2] += t22
                gram[i + 2, j + 3] += t23
                gram[i + 3, j] += t30
                gram[i + 3, j + 1] += t31
                gram[i + 3, j + 2] += t32
                gram[i + 3, j + 3] += t33
        for j in range(whole, rows):
            b0 = block[j, start:stop]
            for i in range(0, whole, 4):
                a0, a1 = block[i, start:stop], block[i + 1, start:stop]
                a2, a3 = block[i + 2, start:stop], block[i + 3, start:stop]
                t00 = t01 = t02 = t03 = 0.0
                for c in range(stop - start):
                    y0 = np.float64(b0[c])
                    t00 += np.float64(a0[c]) * y0
                    t01 += np.float64(a1[c]) * y0
                    t02 += np.float64(a2[c]) * y0
                    t03 += np.float64(a3[c]) * y0
                gram[i, j] += t00
                gram[i + 1, j] += t01
                gram[i + 2, j] += t02
                gram[i + 3, j] += t03
            for i in range(whole, j + 1):
                a0 = block[i, start:stop]
                total = 0.0
                for c in range(stop - start):
                    total += np.float64(a0[c]) * np.float64(b0[c])
                gram[i, j] += total


@njit(nogil=True, cache=True, fastmath=SUMS)
def add_weighted(values: NDArray[Any], weight: float, out: NDArray[np.float64]) -> float:
    """Add ``weight * values`` to ``out``, both (columns,), and return the values' sum of squares, in float64."""
    squares = 0.0
    for c in range(values.size):
        value = np.float64(values[c])
        out[c] += weight * value
        squares += value * value
    return squares


@njit(nogil=True, cache=True, fastmath=SUMS)
def add_rows(
    block: NDArray[Any], rows: NDArray[np.int64], weights: NDArray[np.float64], first: int, out: NDArray[np.float64]
) -> None:
    """Add the weighted rows of the block, from column `first` on, to ``out`` (columns,): four rows at a time."""
    width = out.size
    whole = rows.size - rows.size % 4
    for k in range(0, whole, 4):
        a, b = block[rows[k], first : first + width], block[rows[k + 1], first : first + width]
        c, d = block[rows[k + 2], first : first + width], block[rows[k + 3], first : first + width]
        v, w, x, y = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for i in range(width):
            out[i] += v * np.float64(a[i]) + w * np.float64(b[i]) + x * np.float64(c[i]) + y * np.float64(d[i])
    for k in range(whole, rows.size):
        a, v = block[rows[k], first : first + width], weights[k]
        for i in range(width):
            out[i] += v * np.float64(a[i])


@njit(nogil=True, cache=True, fastmath=SUMS)
def mix_sparsely(
    block: NDArray[Any],
    common: tuple[NDArray[np.int64], NDArray[np.float64]],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    weights: NDArray[np.float64],
    out: NDArray[Any],
) -> None:
    """Write mixed rows into ``out`` (m, columns): what they have in common, plus few weighted rows each; in float64.

    Result i adds the rows ``rows[starts[i]:starts[i + 1]]`` of ``block`` (n, columns), with their weights, to the rows
    and weights of ``common``.
    """
    columns = block.shape[1]
    shared, total = np.empty(STRIP), np.empty(STRIP)
    for first in range(0, columns, STRIP):
        width = min(STRIP, columns - first)
        shared[:width] = 0.0
        add_rows(block, common[0], common[1], first, shared[:width])
        for i in range(out.shape[0]):
            low, high = starts[i], starts[i + 1]
            target = out[i, first : first + width]
            if high - low == 1:
                a, v = block[rows[low], first : first + width], weights[low]
                for c in range(width):
                    target[c] = shared[c] + v * np.float64(a[c])
                continue
            total[:width] = shared[:width]
            add_rows(block, rows[low:high], weights[low:high], first, total[:width])
            for c in range(width):
                target[c] = total[c]
