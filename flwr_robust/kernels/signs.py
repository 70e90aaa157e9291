"""Signs, sizes and edges of the values of each row: what SignGuard and LASA look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flwr_robust.kernels.sums import SUMS

# Columns that are looked at together: few hold one of the few values that are searched for.
RUN = 32


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True, fastmath=SUMS)
def collect_between(
    block: NDArray[Any],
    lower: NDArray[Any],
    upper: NDArray[Any],
    above: NDArray[np.int64],
    room: NDArray[np.int64],
    sizes: NDArray[Any],
    columns: NDArray[Any],
    ends: NDArray[np.int64],
) -> None:
    """Write the absolute values of each row within ``lower ... upper`` one after the other, with their columns.

    Row i's are ``sizes[ends[i - 1]:ends[i]]``. Counts those beyond in ``above`` (rows,). ``room`` (rows,) is how many
    more a row may write; below zero it had too many, and is given up. The last place of ``sizes`` and ``columns`` is
    for values that do not count.
    """
    place = 0
    for i in range(block.shape[0]):
        row, low, high = block[i], lower[i], upper[i]
        end = min(place + room[i], (i + 1) * (sizes.size // block.shape[0]))
        beyond = 0
        for start in range(0, row.size, RUN):
            stop = min(start + RUN, row.size)
            at_least: Any = np.int32(0)
            more: Any = np.int32(0)
            for c in range(start, stop):
                size = abs(row[c])
                at_least += np.int32(1) if size >= low else np.int32(0)
                more += np.int32(1) if size > high else np.int32(0)
            beyond += more
            hits = at_least - more
            if hits == 0 or room[i] < 0:
                continue
            if place + hits >= end:
                room[i] = -1
                continue
            # Written in any case and kept if it counts: a branch that is hard to foretell costs more.
            for c in range(start, stop):
                size = abs(row[c])
                sizes[place] = size
                columns[place] = c
                place += (size >= low) & (size <= high)
            room[i] -= hits
        above[i] += beyond
        ends[i] = place


@njit(nogil=True, cache=True)
def sparsify(
    block: NDArray[Any],
    start: int,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    last_tie: NDArray[np.int64],
) -> None:
    """Set to zero what lies below each row's edge ``lower ... upper``, in place.

    Values within the edge stay up to and including column ``last_tie`` of the whole row; ``start`` is the
    block's first column.
    """
    for i in range(block.shape[0]):
        row, low, high = block[i], lower[i], upper[i]
        ties = last_tie[i] - start
        for c in range(row.size):
            size = abs(np.float64(row[c]))
            gone = size < low or (size <= high and c > ties)
            row[c] = 0 if gone else row[c]


@njit(nogil=True, cache=True, fastmath=SUMS)
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
