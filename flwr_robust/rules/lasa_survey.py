"""Where LASA cuts each row, and what is left of each row in each layer: one pass, in most cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.parallel import for_each
from flwr_robust.passes import BlockReader
from flwr_robust.rows import Rows
from flwr_robust.rules.lasa_cut import Cut, Statistics, Weights
from flwr_robust.sources import address_of
from flwr_robust.updates import FloatArray, Layer, Updates, pieces

# From so many columns on, edges are bracketed by a sample of them, in runs that share a line of the cache.
SAMPLE_FROM, SAMPLE_LEAST, SAMPLE_MOST, SAMPLE_RUN = 2**11, 2**10, 2**16, 16
# Of a block, at most this share of the columns is collected; of all columns, at most so many times what is expected.
BLOCK_SHARE, ROOM = 4, 2
# Squares of float64 values are taken relative to a size among theirs: no further away than this.
FAR = 1e100


def dtype_of(rows: Rows) -> Any:
    """Mixed rows are read in float64, as their edges are found."""
    return np.float64 if rows.mixed else None


def survey(rows: Rows, keep: int) -> tuple[Cut, Statistics]:
    """Find where each row is cut to its `keep` largest values, and what is left of it in each layer.

    A sample of the columns tells a bracket of each row's edge. One pass takes what lies beyond it into the statistics
    and collects what lies within, among which the edge is found. A row whose edge is not in its bracket, or on the
    rim of it, is read in full, one at a time.
    """
    cut = Cut(rows.count, rows.d)
    bracket = _bracket(rows, keep)
    if bracket is None:
        statistics = Statistics.nothing(rows.count, len(rows.layers))
        return _one_by_one(rows, range(rows.count), keep, cut, statistics, None)
    room = int(ROOM * bracket.share * rows.d)
    make = partial(_Surveyor, layers=rows.layers, bracket=bracket, room=room, count=rows.count)
    readers = rows.scan(make, dtype=dtype_of(rows))
    statistics = Statistics.total([reader.statistics for reader in readers])
    largest = max(reader.largest for reader in readers)
    if largest and not 1.0 / FAR < largest * bracket.scale < FAR:
        del readers
        statistics = Statistics.nothing(rows.count, len(rows.layers))
        return _one_by_one(rows, range(rows.count), keep, cut, statistics, None)
    full = np.any([reader.room < 0 for reader in readers], axis=0)
    collected = sorted((part for reader in readers for part in reader.collected), key=lambda part: part.at)
    del readers
    missed: list[int] = []
    if keep < rows.d:
        above = statistics.signs.sum(axis=(1, 2))
        find = _EdgeFinder(collected, keep - above, cut, _slack(rows))
        found = for_each(find, range(rows.count), rows.threads)
        missed = [row for row in range(rows.count) if full[row] or not found[row]]
        del find
    for part in collected:
        part.settle(cut, bracket.scale, statistics)
    del collected
    return _one_by_one(rows, missed, keep, cut, statistics, bracket.scale)


def _slack(rows: Rows) -> float:
    return 1e-12 if rows.mixed else 0.0


def _one_by_one(
    rows: Rows, which: Sequence[int], keep: int, cut: Cut, statistics: Statistics, scale: float | None
) -> tuple[Cut, Statistics]:
    """Cut these rows by selection, and take their statistics anew.

    Each is read twice, to hold little at a time. Short ones are read all at once: what a pass costs at least, for
    each of a thousand nodes, would be most of the time.
    """
    read: Callable[[int], FloatArray] = rows.row
    passes = 2 * (len(which) if rows.mixed else 1)
    if rows.d < SAMPLE_FROM:
        whole = rows.take(np.arange(rows.d))
        read, passes = lambda row: whole[row].copy(), 1
    largest = 0.0
    for row in which:
        sizes = read(row)
        np.abs(sizes, out=sizes)
        largest = max(largest, float(sizes.max(initial=0.0)))
        if keep < rows.d:
            cut.find(row, sizes, None, keep, _slack(rows))
        del sizes
    if scale is None:
        # Norms are only compared: relative to the largest value no square overflows.
        scale = 1.0 / largest if 0.0 < largest < np.inf else 1.0
    for row in which:
        values = read(row)
        cut.of(row).apply(values[None], 0)
        statistics.squares[row], statistics.signs[row] = 0.0, 0
        statistics.add(row, values, rows.layers, scale)
    if len(which):
        rows.passes += passes
    return cut, statistics


@dataclass(frozen=True)
class _Bracket:
    """Values between which each row's edge lies, most likely.

    Attributes
    ----------
    lower, upper : (m,) float64 array
    share : float
        Of the columns that lie between them.
    scale : float
        Inverse of a large value, by which squares are scaled where they might overflow.
    """

    lower: Weights
    upper: Weights
    share: float
    scale: float = 1.0


def _bracket(rows: Rows, keep: int) -> _Bracket | None:
    """Return a bracket for each row from evenly spaced columns; None where rows are better read one at a time."""
    if rows.d < SAMPLE_FROM:
        return None
    count = min(max(rows.d // (60 if rows.mixed else 20), SAMPLE_LEAST), SAMPLE_MOST)
    spacing = max(rows.d * SAMPLE_RUN // count, SAMPLE_RUN)
    runs = np.arange(0, rows.d - SAMPLE_RUN + 1, spacing)
    columns = (runs[:, None] + np.arange(SAMPLE_RUN)).ravel()
    # Rows that are the updates are taken in their own dtype, which leaves room for a larger sample.
    sizes = rows.take(columns) if rows.mixed else rows.updates.take(columns)
    np.abs(sizes, out=sizes)
    scale = 1.0
    if rows.updates.dtype == np.float64:
        largest = float(sizes.max(initial=0.0))
        scale = 1.0 / largest if 0.0 < largest < np.inf else 1.0
    if keep == rows.d:
        # Everything lies beyond zero, and nothing in between.
        return _Bracket(np.ones(rows.count), np.zeros(rows.count), 0.0, scale)
    share = 1.0 - keep / rows.d
    size = sizes.shape[1]
    # Three standard deviations of a rank, and what columns next to each other have in common.
    width = 3.0 * (share * (1.0 - share) / size) ** 0.5 + 0.001
    low = max(int((share - width) * size), 0)
    high = min(int(np.ceil((share + width) * size)), size - 1)
    for_each(lambda row: sizes[row].partition((low, high)), range(rows.count), rows.threads)
    return _Bracket(sizes[:, low].astype(np.float64), sizes[:, high].astype(np.float64), 2.0 * width, scale)


@dataclass
class _Collected:
    """Values of a layer in a block, row by row: row i's are at ``ends[i]:ends[i + 1]``.

    Attributes
    ----------
    at : (int, int)
        First column of the block, and layer.
    values : array
    places : uint16 array
        Their columns within the block: two bytes each.
    ends : (m + 1,) int64 array
    """

    at: tuple[int, int]
    values: FloatArray
    places: NDArray[np.uint16]
    ends: NDArray[np.int64]

    def addresses(self) -> tuple[int, int]:
        """Return where the values and the places lie."""
        return address_of(self.values), address_of(self.places)

    def settle(self, cut: Cut, scale: float, statistics: Statistics) -> None:
        """Add those that are not cut away to the statistics."""
        from flwr_robust import kernels

        found = (self.values, self.places, self.ends)
        edges = (cut.lower, cut.upper)
        kernels.settle(*found, *self.at, edges, cut.last_tie, scale, statistics.squares, statistics.signs)


class _EdgeFinder:
    """Finds rows' edges among their collected values.

    Parameters
    ----------
    collected : list of _Collected
        In the order of their columns.
    keep : (m,) int64 array
        How many of a row's collected values are kept.
    cut : Cut
        Gets the edges.
    slack : float
        Share of its value by which an edge is wide.
    """

    def __init__(self, collected: list[_Collected], keep: NDArray[np.int64], cut: Cut, slack: float) -> None:
        self.collected, self.keep, self.cut, self.slack = collected, keep, cut, slack
        self.starts = np.array([part.at[0] for part in collected], dtype=np.int64)
        self.ends = np.array([part.ends for part in collected])
        self.addresses = np.array([part.addresses() for part in collected], dtype=np.uint64)

    def __call__(self, row: int) -> bool:
        """Find a row's edge; tell whether it is there."""
        return bool(self.collected) and self.cut.find(row, *self.values(row), int(self.keep[row]), self.slack)

    def values(self, row: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return a row's absolute values and their columns, in order."""
        from flwr_robust import kernels

        count = int((self.ends[:, row + 1] - self.ends[:, row]).sum())
        sizes, columns = np.empty(count, self.collected[0].values.dtype), np.empty(count, dtype=np.int64)
        like = self.collected[0].places
        kernels.gather_row(row, self.addresses, self.ends, self.starts, sizes, like, columns)
        return sizes, columns


class _Surveyor(BlockReader):
    """Takes what lies beyond each row's bracket into the statistics, and collects what lies within."""

    def __init__(
        self,
        updates: Updates,
        width: int,
        *,
        layers: Sequence[Layer],
        bracket: _Bracket,
        room: int,
        count: int,
        **options: Any,
    ) -> None:
        super().__init__(updates, width, **options)
        dtype = options.get("dtype") or updates.dtype
        self.layers, self.scale = layers, bracket.scale
        self.bracket = bracket.lower.astype(dtype), bracket.upper.astype(dtype)
        self.statistics, self.largest = Statistics.nothing(count, len(layers)), 0.0
        self.collected: list[_Collected] = []
        self.room = np.full(count, room, dtype=np.int64)
        self._near = np.zeros(width + -width % 8, dtype=np.uint8)
        self._places = np.empty(count * (width // BLOCK_SHARE + 1), np.uint16)
        self._values = np.empty(self._places.size, dtype)
        self._ends = np.empty(count + 1, dtype=np.int64)

    def use(self, start: int, stop: int, block: FloatArray) -> None:
        """See `BlockReader.use`."""
        from flwr_robust import kernels

        statistics: Any = (self.statistics.squares, self.statistics.signs)
        collected: Any = (self.room, self._near, self._values, self._places, self._ends)
        for layer, first, last, at in pieces(self.layers, start, stop):
            kernels.survey(block, (at, at + last - first), layer, self.bracket, self.scale, *statistics, *collected)
            end = self._ends[-1]
            if end:
                values, places = self._values[:end].copy(), self._places[:end].copy()
                self.collected.append(_Collected((start, layer), values, places, self._ends.copy()))
        if self.updates.dtype == np.float64:
            self.largest = max(self.largest, float(np.abs(block).max(initial=0.0)))
