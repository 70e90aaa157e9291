"""Where LASA sparsifies each row, and what is left of it in each layer: one pass, in most cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.cpu import for_each
from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Weights
from flwr_robust.engine.kernels import signs as kernels
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Layer, address_of, pieces

# From this many columns on, thresholds are bracketed by a sample of them, in runs that share a line of the cache.
SAMPLE_FROM, SAMPLE_LEAST, SAMPLE_MOST, SAMPLE_RUN = 2**11, 2**10, 2**16, 16
# Of a block, at most this share of the columns is collected; of all columns, at most this many times the expected.
BLOCK_SHARE, ROOM = 4, 2
# Squares of float64 values are taken relative to a size among theirs: no further away than this.
FAR = 1e100


class Thresholds:
    """The magnitude threshold of each row: values at it count as equal, and are kept up to a last column.

    Rows behind a mixing map are made twice, which may differ in the last digits: there a threshold has a width.

    Attributes
    ----------
    lower, upper : (m,) float64 array
        The threshold of each row.
    last_kept : (m,) int64 array
        The last column in which a value at the threshold is kept.
    """

    def __init__(self, count: int, d: int) -> None:
        self.lower, self.upper = np.zeros(count), np.zeros(count)
        self.last_kept = np.full(count, d, dtype=np.int64)

    def find(self, row: int, sizes: FloatArray, columns: NDArray[Any] | None, keep: int, slack: float) -> bool:
        """Find the keep-th largest of these absolute values of a row; whether all that are as large can be seen.

        The values are in the order of their columns: all of them (no `columns`), or those of a bracket.
        """
        if not 0 < keep <= sizes.size:
            return False
        threshold = float(np.partition(sizes, sizes.size - keep)[sizes.size - keep])
        lower, upper = threshold * (1.0 - slack), threshold * (1.0 + slack)
        ties = np.flatnonzero((sizes >= lower) & (sizes <= upper))
        missing = keep - int((sizes > upper).sum())
        if not 0 < missing <= len(ties):
            # NaN spoils the count: a pass names the row, whatever is kept of it.
            return False
        last = ties[missing - 1]
        self.lower[row], self.upper[row] = lower, upper
        self.last_kept[row] = last if columns is None else columns[last]
        return columns is None or bool(sizes.min() < lower and upper < sizes.max())

    def in_dtype(self, dtype: Any) -> tuple[FloatArray, FloatArray]:
        """Return them in the dtype of the rows, which loses nothing: they are values of the rows."""
        return self.lower.astype(dtype), self.upper.astype(dtype)

    def of(self, row: int) -> Thresholds:
        """Return the threshold of one row alone."""
        alone = Thresholds(0, 0)
        for name, value in vars(self).items():
            setattr(alone, name, value[row : row + 1])
        return alone

    def apply(self, block: FloatArray, start: int) -> None:
        """Set to zero what is below in a block that begins with column `start`, in place."""
        kernels.sparsify(block, start, self.lower, self.upper, self.last_kept)


@dataclass
class Statistics:
    """What is left of each row in each layer.

    Attributes
    ----------
    squares : (m, layers) float64 array
        Sums of squares, in a unit of their own.
    signs : (m, layers, 2) int64 array
        Numbers of positive and of negative values.
    """

    squares: Weights
    signs: NDArray[np.int64]

    @classmethod
    def nothing(cls, count: int, layers: int) -> Statistics:
        """Return zeros."""
        return cls(np.zeros((count, layers)), np.zeros((count, layers, 2), dtype=np.int64))

    @property
    def norms(self) -> Weights:
        """L2 norms, in a unit of their own."""
        return np.sqrt(self.squares)

    @property
    def purity(self) -> Weights:
        """Positive direction purity (LASA, Definition 3); 1/2 where nothing is left."""
        balance = (self.signs[..., 0] - self.signs[..., 1]) / np.maximum(self.signs.sum(axis=2), 1)
        halves: Weights = (1.0 + balance) / 2.0
        return halves

    def add(self, row: int, values: FloatArray, layers: Sequence[Layer], scale: float) -> None:
        """Add a row (d,) in full."""
        for layer, first, last, at in pieces(layers, 0, values.size):
            mine = (self.squares[row : row + 1], self.signs[row : row + 1])
            kernels.layer_statistics(values[None], (at, at + last - first), layer, scale, *mine)


def dtype_of(rows: Rows) -> Any:
    """Mixed rows are read in float64, as their thresholds are found."""
    return np.float64 if rows.mixed else None


def find_thresholds(rows: Rows, keep: int) -> tuple[Thresholds, Statistics]:
    """Find the threshold that leaves each row its `keep` largest values, and what it leaves in each layer.

    A sample of the columns brackets each row's threshold. One pass takes what lies beyond the bracket into the
    statistics and collects what lies within, among which the threshold is found. A row whose threshold is not inside
    its bracket is read in full, one at a time.
    """
    thresholds = Thresholds(rows.count, rows.d)
    bracket = _bracket(rows, keep)
    if bracket is None:
        statistics = Statistics.nothing(rows.count, len(rows.layers))
        return _one_by_one(rows, range(rows.count), keep, thresholds, statistics, None)
    # How many values of each row may still be collected: a hostile row, all of whose values are alike, has its limit.
    room = np.full(rows.count, int(ROOM * bracket.share * rows.d), dtype=np.int64)
    make = partial(_Summary, bracket=bracket, rows=rows, room=room)
    summary = rows.scan(
        lambda block, start, summary: summary.add(block, start), make, _Summary.merge, dtype=dtype_of(rows)
    )
    statistics, largest, full = summary.statistics, summary.largest, room < 0
    if largest and not 1.0 / FAR < largest * bracket.scale < FAR:
        del summary
        statistics = Statistics.nothing(rows.count, len(rows.layers))
        return _one_by_one(rows, range(rows.count), keep, thresholds, statistics, None)
    collected = sorted(summary.collected, key=lambda part: part.at)
    del summary
    missed: list[int] = []
    if keep < rows.d:
        above = statistics.signs.sum(axis=(1, 2))
        find = _ThresholdFinder(collected, keep - above, thresholds, _slack(rows))
        seen = for_each(find, range(rows.count), rows.threads)
        missed = [row for row in range(rows.count) if full[row] or not seen[row]]
        del find
    for part in collected:
        part.add_kept(thresholds, bracket.scale, statistics)
    del collected
    return _one_by_one(rows, missed, keep, thresholds, statistics, bracket.scale)


def _slack(rows: Rows) -> float:
    return 1e-12 if rows.mixed else 0.0


def _one_by_one(
    rows: Rows, which: Sequence[int], keep: int, thresholds: Thresholds, statistics: Statistics, scale: float | None
) -> tuple[Thresholds, Statistics]:
    """Thresholds these rows by selection, and take their statistics anew.

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
            thresholds.find(row, sizes, None, keep, _slack(rows))
        del sizes
    if scale is None:
        # Norms are only compared: relative to the largest value no square overflows.
        scale = 1.0 / largest if 0.0 < largest < np.inf else 1.0
    for row in which:
        values = read(row)
        thresholds.of(row).apply(values[None], 0)
        statistics.squares[row], statistics.signs[row] = 0.0, 0
        statistics.add(row, values, rows.layers, scale)
    if len(which):
        rows.passes += passes
    return thresholds, statistics


@dataclass(frozen=True)
class _Bracket:
    """Values between which each row's threshold lies, most likely.

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
    sizes = rows.take(columns) if rows.mixed else rows.points.take(columns)
    np.abs(sizes, out=sizes)
    scale = 1.0
    if rows.dtype == np.float64:
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

    def add_kept(self, thresholds: Thresholds, scale: float, statistics: Statistics) -> None:
        """Add those that are kept to the statistics."""
        found = (self.values, self.places, self.ends)
        bounds = (thresholds.lower, thresholds.upper)
        kernels.add_kept(*found, *self.at, bounds, thresholds.last_kept, scale, statistics.squares, statistics.signs)


class _ThresholdFinder:
    """Finds rows' thresholds among their collected values.

    Parameters
    ----------
    collected : list of _Collected
        In the order of their columns.
    keep : (m,) int64 array
        How many of a row's collected values are kept.
    thresholds : Thresholds
        Gets what is found.
    slack : float
        Share of its value by which a threshold is wide.
    """

    def __init__(
        self, collected: list[_Collected], keep: NDArray[np.int64], thresholds: Thresholds, slack: float
    ) -> None:
        self.collected, self.keep, self.thresholds, self.slack = collected, keep, thresholds, slack
        self.starts = np.array([part.at[0] for part in collected], dtype=np.int64)
        self.ends = np.array([part.ends for part in collected])
        self.addresses = np.array([part.addresses() for part in collected], dtype=np.uint64)

    def __call__(self, row: int) -> bool:
        """Find a row's threshold; return whether it is there."""
        return bool(self.collected) and self.thresholds.find(row, *self.values(row), int(self.keep[row]), self.slack)

    def values(self, row: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return a row's absolute values and their columns, in order."""
        count = int((self.ends[:, row + 1] - self.ends[:, row]).sum())
        sizes, columns = np.empty(count, self.collected[0].values.dtype), np.empty(count, dtype=np.int64)
        like = self.collected[0].places
        kernels.gather_row(row, self.addresses, self.ends, self.starts, sizes, like, columns)
        return sizes, columns


class _Summary:
    """What a pass finds: statistics of what lies beyond each row's bracket, and the values that lie within."""

    def __init__(self, width: int, bracket: _Bracket, rows: Rows, room: NDArray[np.int64]) -> None:
        dtype = dtype_of(rows) or rows.dtype
        self.layers, self.scale, self.is_float64 = rows.layers, bracket.scale, rows.dtype == np.float64
        self.bracket = bracket.lower.astype(dtype), bracket.upper.astype(dtype)
        self.statistics, self.largest = Statistics.nothing(rows.count, len(rows.layers)), 0.0
        self.collected: list[_Collected] = []
        self._all_room, self._given, self._room = room, room.copy(), room.copy()
        self._near = np.zeros(width + -width % 8, dtype=np.uint8)
        self._places = np.empty(rows.count * (width // BLOCK_SHARE + 1), np.uint16)
        self._values = np.empty(self._places.size, dtype)
        self._ends = np.empty(rows.count + 1, dtype=np.int64)

    def add(self, block: FloatArray, start: int) -> None:
        """Add a block."""
        statistics: Any = (self.statistics.squares, self.statistics.signs)
        collected: Any = (self._room, self._near, self._values, self._places, self._ends)
        for layer, first, last, at in pieces(self.layers, start, start + block.shape[1]):
            kernels.summarize(block, (at, at + last - first), layer, self.bracket, self.scale, *statistics, *collected)
            end = self._ends[-1]
            if end:
                values, places = self._values[:end].copy(), self._places[:end].copy()
                self.collected.append(_Collected((start, layer), values, places, self._ends.copy()))
        if self.is_float64:
            self.largest = max(self.largest, float(np.abs(block).max(initial=0.0)))

    def merge(self, found: _Summary) -> None:
        """Add what was found in the blocks behind."""
        self.statistics.squares += found.statistics.squares
        self.statistics.signs += found.statistics.signs
        self.largest = max(self.largest, found.largest)
        self.collected += found.collected
        self._all_room -= found._given - found._room
