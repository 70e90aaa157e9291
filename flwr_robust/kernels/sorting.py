"""Sorting networks over blocks of columns, and means of what they sorted."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

# Columns that a network sorts at a time: 50 rows of 512 float32 values stay in the second-level cache, and the
# cost of finding two rows is spread over many columns.
TILE = 512


@lru_cache(maxsize=64)
def sorting_network(rows: int, first: int, last: int) -> NDArray[np.int64]:
    """Return the comparators of Batcher's odd-even merge sort, reduced to those that outputs ``first:last`` need.

    Parameters
    ----------
    rows : int
        Number of values to sort.
    first, last : int
        The sorted positions that will be read.

    Returns
    -------
    (comparators, 2) int64 array of row pairs ``(low, high)``, to be applied in order.
    """
    needed = set(range(first, last))
    kept: list[tuple[int, int]] = []
    for low, high in reversed(_batcher(rows)):
        if low in needed or high in needed:
            needed.update((low, high))
            kept.append((low, high))
    return np.array(kept[::-1], dtype=np.int64).reshape(-1, 2)


def _batcher(rows: int) -> list[tuple[int, int]]:
    """Batcher's network (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M) for any size."""
    pairs: list[tuple[int, int]] = []
    power = 1
    while power < rows:
        power *= 2
    p = power // 2
    while p > 0:
        q, r, distance = power // 2, 0, p
        while distance > 0:
            pairs += [(i, i + distance) for i in range(rows - distance) if i & p == r]
            distance, q, r = q - p, q // 2, p
        p //= 2
    return pairs


def mean_of_sorted(block: NDArray[Any], first: int, last: int, out: NDArray[np.float64]) -> None:
    """Mean of the sorted values ``first:last`` of each column into ``out`` (columns,); the block is overwritten."""
    if last - first < len(block):
        sort_rows(block, sorting_network(len(block), first, last))
    mean_rows(block, first, last, out)


def mean_around_median(block: NDArray[Any], keep: int, out: NDArray[np.float64]) -> None:
    """Mean of the `keep` values nearest to each column's median into ``out`` (columns,); the block is sorted."""
    sort_rows(block, sorting_network(len(block), 0, len(block)))
    mean_near_median(block, keep, out)


def _of_two(name: str) -> Any:
    """Make a function that returns the `name` (``minnum`` or ``maxnum``) of two floats, neither of which is NaN."""

    @intrinsic
    def of_two(typing_context: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = arguments[0].type
            width = 32 if kind == ir.FloatType() else 64
            shape = ir.FunctionType(kind, [kind, kind])
            function = cgutils.get_or_insert_function(builder.module, shape, f"llvm.{name}.f{width}")  # type: ignore[no-untyped-call]
            return builder.call(function, arguments, fastmath=("nnan", "nsz"))

        return x(x, y), generate

    return of_two


# Python's min and max become stores under a mask here, which take several times as long on some processors.
_smaller, _larger = _of_two("minnum"), _of_two("maxnum")


@njit(nogil=True, cache=True)
def sort_rows(block: NDArray[Any], pairs: NDArray[np.int64]) -> None:
    """Apply the comparators to each column of ``block`` (rows, columns), in place; with NaN, results are anything."""
    columns = block.shape[1]
    for start in range(0, columns, TILE):
        stop = min(start + TILE, columns)
        for p in range(pairs.shape[0]):
            low = block[pairs[p, 0], start:stop]
            high = block[pairs[p, 1], start:stop]
            for c in range(stop - start):
                x, y = low[c], high[c]
                low[c] = _smaller(x, y)
                high[c] = _larger(x, y)


@njit(nogil=True, cache=True)
def mean_rows(block: NDArray[Any], first: int, last: int, out: NDArray[np.float64]) -> None:
    """Mean of rows ``first:last`` of each column into ``out`` (columns,), added up in float64."""
    count = last - first
    for c in range(block.shape[1]):
        out[c] = 0.0
    for i in range(first, last):
        row = block[i]
        for c in range(block.shape[1]):
            # Divided before it is added: a sum of values near the largest float64 would overflow.
            out[c] += np.float64(row[c]) / count


@njit(nogil=True, cache=True)
def mean_near_median(block: NDArray[Any], keep: int, out: NDArray[np.float64]) -> None:
    """Mean of the `keep` values nearest to each column's median; ``block`` (rows, columns) is sorted.

    The nearest values stand side by side. Of the `keep` that begin at t, the first is given up for the next one
    behind them where that is nearer; as values are sorted, that holds up to some t and for none beyond. So each value
    knows by itself whether it counts, and the loops run along the columns.
    """
    rows, columns = block.shape
    lower, upper = block[(rows - 1) // 2], block[rows // 2]
    median = np.empty(columns)
    for c in range(columns):
        median[c] = np.float64(lower[c]) / 2 + np.float64(upper[c]) / 2
        out[c] = 0.0
    share = 1.0 / keep
    for i in range(rows):
        # Multiplied before it is added: a sum of values near the largest float64 would overflow.
        if i + keep < rows and i >= keep:
            _add_if_near(block[i], block[i + keep], block[i - keep], median, share, out)
        elif i + keep < rows:
            value, behind = block[i], block[i + keep]
            for c in range(columns):
                x, m = np.float64(value[c]), median[c]
                out[c] += 0.0 if np.float64(behind[c]) - m < m - x else x * share
        elif i >= keep:
            value, before = block[i], block[i - keep]
            for c in range(columns):
                x, m = np.float64(value[c]), median[c]
                out[c] += x * share if x - m < m - np.float64(before[c]) else 0.0
        else:
            value = block[i]
            for c in range(columns):
                out[c] += np.float64(value[c]) * share


@njit(nogil=True, cache=True)
def _add_if_near(
    value: NDArray[Any],
    behind: NDArray[Any],
    before: NDArray[Any],
    median: NDArray[np.float64],
    share: float,
    out: NDArray[np.float64],
) -> None:
    """Add the values that are neither given up for those behind them nor too far for those before."""
    for c in range(out.size):
        x, m = np.float64(value[c]), median[c]
        stays = np.float64(behind[c]) - m >= m - x
        comes = x - m < m - np.float64(before[c])
        out[c] += x * share if stays & comes else 0.0
