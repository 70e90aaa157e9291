"""What every pass does: rows are read where they lie, multiplied, weighed, mixed and sorted; sums are in float64.

One call reads all rows of a block: threads that enter and leave compiled code for each row spend their time handing
Python's lock to each other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from flwr_robust.engine.kernels.compiled import compiled

# Columns of a pair of rows that are multiplied at a time: four pairs stay in the first-level cache.
STRIP = 1024
# Columns that rows are added up at a time: their float64 sums stay in the cache while all rows pass by.
WIDE_STRIP = 2048
# Columns that a network sorts at a time: 50 rows of 512 float32 values stay in the second-level cache, and the
# cost of finding two rows is spread over many columns.
TILE = 512
# Sums may be split and reordered, which lets them be vectorised; NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract"}


# ---------------------------------------------------------------- reading


@intrinsic
def _typed_pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """Return an address as a pointer to values of an array's dtype."""
    kind: Any = types.CPointer(like.dtype)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, like), generate


# Called without the typing context, which numba fills in.
pointer: Any = _typed_pointer


@compiled()
def read_rows(
    addresses: NDArray[np.uint64], bases: NDArray[np.uint64], first: int, count: int, out: NDArray[Any], at: int
) -> None:
    """Copy `count` values of each row, from its value `first` on, to column `at` of ``out`` (rows, columns).

    The values at a row's base, unless that is zero, are subtracted. Rows and bases are arrays of ``out``'s dtype,
    each in one piece, at these addresses.
    """
    offset = np.uint64(first * out.itemsize)
    for i in range(addresses.size):
        values = carray(pointer(addresses[i] + offset, out), (count,))
        row = out[i]
        if bases[i] != 0:
            base = carray(pointer(bases[i] + offset, out), (count,))
            for c in range(count):
                row[at + c] = values[c] - base[c]
        else:
            for c in range(count):
                row[at + c] = values[c]


# ---------------------------------------------------------------- sums


@compiled(fastmath=SUMS)
def squared_norms(block: NDArray[Any], out: NDArray[np.float64]) -> None:
    """Add each row's sum of squares to ``out`` (rows,), in float64; NaN and infinity show up in it."""
    for i in range(block.shape[0]):
        row = block[i]
        total = 0.0
        for c in range(row.size):
            total += np.float64(row[c]) * np.float64(row[c])
        out[i] += total


@compiled(fastmath=SUMS)
def add_gram(block: NDArray[Any], gram: NDArray[np.float64]) -> None:
    """Add ``block @ block.T`` to ``gram`` (rows, rows), on and above the diagonal, in float64.

    Four rows by four: sixteen sums share eight loads and stay in registers. That is faster than BLAS for so few
    rows of that many columns, and needs no float64 copy of float32 rows.
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


@compiled(fastmath=SUMS)
def add_weighted(values: NDArray[Any], weight: float, out: NDArray[np.float64]) -> float:
    """Add ``weight * values`` to ``out``, both (columns,), and return the values' sum of squares, in float64."""
    squares = 0.0
    for c in range(values.size):
        value = np.float64(values[c])
        out[c] += weight * value
        squares += value * value
    return squares


@compiled(fastmath=SUMS)
def weigh_rows(
    addresses: NDArray[np.uint64],
    bases: NDArray[np.uint64],
    first: int,
    count: int,
    weights: NDArray[np.float64],
    like: NDArray[Any],
    out: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add the weighted rows to ``out`` (count,) and their squares to ``squares`` (rows,), in float64.

    Addresses are as in `read_rows`, of values of the dtype of `like`; differences to the bases are taken in it.
    """
    for start in range(0, count, WIDE_STRIP):
        width = min(WIDE_STRIP, count - start)
        target = out[start : start + width]
        offset = np.uint64((first + start) * like.itemsize)
        for i in range(addresses.size):
            values = carray(pointer(addresses[i] + offset, like), (width,))
            weight, total = weights[i], 0.0
            if bases[i] != 0:
                base = carray(pointer(bases[i] + offset, like), (width,))
                for c in range(width):
                    value = np.float64(values[c] - base[c])
                    target[c] += weight * value
                    total += value * value
            else:
                total = add_weighted(values, weight, target)
            squares[i] += total


@compiled(fastmath=SUMS)
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


@compiled(fastmath=SUMS)
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


# ---------------------------------------------------------------- sorting


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


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
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
