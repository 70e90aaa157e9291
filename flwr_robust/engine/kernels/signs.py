"""Signs and magnitudes of the values of each row: what SignGuard and LASA filter by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.typing import NDArray

from flwr_robust.engine.kernels.blocks import SUMS, pointer
from flwr_robust.engine.kernels.compiled import compiled

# Columns that are looked at together: few words hold one of the few values that are searched for.
WORD = 8


@compiled()
def count_signs(block: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Add the numbers of positive, zero and negative values of each row to ``counts`` (rows, 3)."""
    for i in range(block.shape[0]):
        row = block[i]
        plus = minus = 0
        for c in range(row.size):
            plus += row[c] > 0
            minus += row[c] < 0
        counts[i, 0] += plus
        counts[i, 1] += row.size - plus - minus
        counts[i, 2] += minus


@compiled(fastmath=SUMS)
def summarize(
    block: NDArray[Any],
    columns: tuple[int, int],
    layer: int,
    bracket: tuple[NDArray[Any], NDArray[Any]],
    scale: float,
    squares: NDArray[np.float64],
    signs: NDArray[np.int64],
    room: NDArray[np.int64],
    near: NDArray[np.uint8],
    values: NDArray[Any],
    places: NDArray[Any],
    ends: NDArray[np.int64],
) -> None:
    """Add what lies beyond each row's bracket to a layer's statistics, and write down what lies within.

    The layer is the columns ``columns[0]:columns[1]`` of the block; ``squares`` (rows, layers) and ``signs`` (rows,
    layers, plus/minus) are those of `layer_statistics`. Row i's values whose absolute values lie within ``bracket[0][i]
    ... bracket[1][i]`` go to ``values[ends[i]:ends[i + 1]]`` and their columns within the block to ``places``. ``room``
    (rows,) is how many more a row may write; below zero it had too many, and is given up. ``near`` has a place for each
    column, in multiples of `WORD`.
    """
    first, width = columns[0], columns[1] - columns[0]
    near[width:] = 0
    words = near.view(np.uint64)[: (width + WORD - 1) // WORD]
    ends[0] = 0
    for i in range(block.shape[0]):
        row, low, high = block[i, first : first + width], bracket[0][i], bracket[1][i]
        # One short loop for each question: each runs on many columns at a time.
        found: Any = np.int32(0)
        for c in range(width):
            inside = (abs(row[c]) >= low) & (abs(row[c]) <= high)
            near[c] = inside
            found += np.int32(inside)
        _add_beyond(row, high, scale, squares[i], signs[i], layer)
        place = ends[i]
        if found and room[i] >= 0:
            if found > room[i] or place + found >= (i + 1) * (values.size // block.shape[0]):
                room[i] = -1
            else:
                room[i] -= found
                place = _gather(row, near, words, first, place, values, places)
        ends[i + 1] = place


@compiled(fastmath=SUMS)
def _add_beyond(
    row: NDArray[Any],
    high: float,
    scale: float,
    squares: NDArray[np.float64],
    signs: NDArray[np.int64],
    layer: int,
) -> None:
    plus: Any = np.int32(0)
    minus: Any = np.int32(0)
    for c in range(row.size):
        plus += np.int32(row[c] > high)
        minus += np.int32(row[c] < -high)
    nothing = row.dtype.type(0)
    total = 0.0
    for c in range(row.size):
        value = np.float64(row[c] if abs(row[c]) > high else nothing) * scale
        total += value * value
    squares[layer] += total
    signs[layer, 0] += plus
    signs[layer, 1] += minus


@compiled()
def _gather(
    row: NDArray[Any],
    near: NDArray[np.uint8],
    words: NDArray[np.uint64],
    first: int,
    place: int,
    values: NDArray[Any],
    places: NDArray[Any],
) -> int:
    """Write the near values one after the other, from `place` on, and return where they end."""
    for k in range(words.size):
        if words[k] == 0:
            continue
        # Written in any case and kept if it counts: a branch that is hard to foretell costs more.
        for c in range(WORD * k, min(WORD * k + WORD, row.size)):
            values[place] = row[c]
            places[place] = first + c
            place += near[c]
    return place


@compiled()
def gather_row(
    row: int,
    addresses: NDArray[np.uint64],
    ends: NDArray[np.int64],
    starts: NDArray[np.int64],
    sizes: NDArray[Any],
    places: NDArray[np.uint16],
    columns: NDArray[np.int64],
) -> None:
    """Put together what several calls of `summarize` wrote down of a row, in ``sizes`` and ``columns``.

    ``addresses`` (calls, 2) are those of their values, of the dtype of ``sizes``, and places, of that of ``places``;
    ``ends`` (calls, rows + 1) are theirs, and ``starts`` (calls,) the first columns of their blocks.
    """
    at = 0
    for part in range(addresses.shape[0]):
        last = ends[part, row + 1]
        values = carray(pointer(addresses[part, 0], sizes), (last,))
        within = carray(pointer(addresses[part, 1], places), (last,))
        for k in range(ends[part, row], last):
            sizes[at] = abs(values[k])
            columns[at] = starts[part] + within[k]
            at += 1


@compiled()
def add_kept(
    values: NDArray[Any],
    places: NDArray[Any],
    ends: NDArray[np.int64],
    start: int,
    layer: int,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    last_kept: NDArray[np.int64],
    scale: float,
    squares: NDArray[np.float64],
    signs: NDArray[np.int64],
) -> None:
    """Add those of `summarize`'s values that `sparsify` leaves to the layer's statistics."""
    for i in range(ends.size - 1):
        low, high, ties = bounds[0][i], bounds[1][i], last_kept[i] - start
        for k in range(ends[i], ends[i + 1]):
            value = np.float64(values[k])
            size = abs(value)
            if size < low or (size <= high and places[k] > ties):
                continue
            squares[i, layer] += (value * scale) ** 2
            signs[i, layer, 0] += value > 0
            signs[i, layer, 1] += value < 0


@compiled()
def sparsify(
    block: NDArray[Any],
    start: int,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    last_kept: NDArray[np.int64],
) -> None:
    """Set to zero what lies below each row's threshold ``lower ... upper``, in place.

    Values within it stay up to and including column ``last_kept`` of the whole row; ``start`` is the
    block's first column.
    """
    for i in range(block.shape[0]):
        row, low, high = block[i], lower[i], upper[i]
        ties = last_kept[i] - start
        for c in range(row.size):
            size = abs(np.float64(row[c]))
            gone = size < low or (size <= high and c > ties)
            row[c] = 0 if gone else row[c]


@compiled(fastmath=SUMS)
def layer_statistics(
    block: NDArray[Any],
    columns: tuple[int, int],
    layer: int,
    scale: float,
    squares: NDArray[np.float64],
    signs: NDArray[np.int64],
) -> None:
    """Add sums of scaled squares to ``squares`` (rows, layers), and signs to ``signs`` (rows, layers, plus/minus).

    The layer is the columns ``columns[0]:columns[1]`` of the block.
    """
    for i in range(block.shape[0]):
        row = block[i, columns[0] : columns[1]]
        total = 0.0
        plus = minus = 0
        for c in range(row.size):
            value = np.float64(row[c]) * scale
            total += value * value
            plus += row[c] > 0
            minus += row[c] < 0
        squares[i, layer] += total
        signs[i, layer, 0] += plus
        signs[i, layer, 1] += minus


@compiled(fastmath=SUMS)
def add_sparsified(
    block: NDArray[Any],
    start: int,
    rows: NDArray[np.int64],
    first: int,
    bounds: tuple[NDArray[Any], NDArray[Any]],
    last_kept: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Add what `sparsify` leaves of these rows of the block, from column `first` on, to ``out`` (columns,).

    The bounds, of `sparsify`, are in the block's dtype.
    """
    nothing = block.dtype.type(0)
    for k in range(rows.size):
        i = rows[k]
        row, low, high = block[i, first : first + out.size], bounds[0][i], bounds[1][i]
        ties = min(max(last_kept[i] + 1 - start - first, 0), out.size)
        for c in range(ties):
            out[c] += np.float64(row[c] if abs(row[c]) >= low else nothing)
        for c in range(ties, out.size):
            out[c] += np.float64(row[c] if abs(row[c]) > high else nothing)
