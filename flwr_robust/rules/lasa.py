"""LASA: sparsify each row, then filter and average layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.passes import BlockReader
from flwr_robust.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import check_positive
from flwr_robust.rules.coordinatewise import Median
from flwr_robust.updates import FloatArray, Layer, Updates, pieces

Booleans = NDArray[np.bool_]
Weights = NDArray[np.float64]

# From so many columns on, edges are bracketed by a sample of them, in runs that share a line of the cache.
SAMPLE_FROM, SAMPLE_LEAST, SAMPLE_MOST, SAMPLE_RUN = 2**17, 2**12, 2**16, 16
# Of a block, at most this share of the columns is collected; of all columns, at most so many times what is expected.
BLOCK_SHARE, ROOM = 4, 2


class LASA(Rule):
    """Layer-adaptive sparsified model aggregation.

    Each row keeps its k = (1 - sparsity) d largest absolute values (of equal ones at the edge the first
    columns). Per layer a row passes if its L2 norm and its positive direction purity,
    ``1/2 (1 + (plus - minus) / (plus + minus))`` over the signs of its values, both have an MZ-score
    ``(x - median) / standard deviation`` within their radius; the layer is the mean of the sparsified rows
    that pass, or their coordinate-wise median where none does. A layer without a nonzero value has purity
    1/2; where all rows agree the score is 0. Needs n >= 3 and takes no f.

    Source: LASA, Algorithm 1, Definitions 1 to 3.

    Parameters
    ----------
    sparsity : float
        Share of each row that is set to zero, in [0, 1).
    magnitude_radius, direction_radius : float
        Largest absolute MZ-scores of norm and purity.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import LASA
    >>> X = np.array([[2.0, 1.0, 5.0], [2.0, 1.0, 5.0], [2.0, 1.0, 5.0], [-9.0, 9.0, 90.0]])
    >>> LASA(sparsity=0.34)(X, layers=[("a", 2), ("b", 1)])
    array([2., 0., 5.])
    """

    name = "lasa"
    takes_f = False
    requirement = "n >= 3"
    source = "LASA Alg. 1"
    breakdown = "not proven"

    def __init__(self, sparsity: float = 0.3, magnitude_radius: float = 2.0, direction_radius: float = 1.0) -> None:
        super().__init__()
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0.0 <= sparsity < 1.0:
            raise ValueError(f"LASA was given sparsity = {sparsity!r}; give a number in [0, 1).")
        self.sparsity = float(sparsity)
        self.magnitude_radius = check_positive(magnitude_radius, "magnitude_radius", "LASA")
        self.direction_radius = check_positive(direction_radius, "direction_radius", "LASA")

    def least_rows(self, f: int) -> int:
        """See `Stage.least_rows`."""
        return 3

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        defaults = {"sparsity": 0.3, "magnitude_radius": 2.0, "direction_radius": 1.0}
        return {key: getattr(self, key) for key, value in defaults.items() if getattr(self, key) != value}

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        keep = rows.d - int(self.sparsity * rows.d + 1e-9)
        cut = _cut(rows, keep)
        norms, purity = _statistics(rows, cut)
        passed = _within(norms, self.magnitude_radius) & _within(purity, self.direction_radius)
        rows.count_in(passed | ~passed.any(axis=0))
        make = partial(
            _Average, layers=rows.layers, cut=cut, passed=passed, vector=np.empty(rows.d, rows.updates.dtype)
        )
        return rows.scan(make, dtype=_dtype(rows))[0].vector


class _Cut:
    """Where each row is cut: values at its edge count as equal, and stay up to a last column.

    Rows behind a mixing map are made twice, which may differ in the last digits: there the edge has a width.
    """

    def __init__(self, count: int, d: int) -> None:
        self.lower, self.upper = np.zeros(count), np.zeros(count)
        self.last_tie = np.full(count, d, dtype=np.int64)
        self.largest = 0.0

    def find(self, row: int, sizes: FloatArray, columns: NDArray[Any] | None, keep: int, slack: float) -> bool:
        """Find the keep-th largest of these absolute values of a row; whether all that are as large can be seen.

        The values are in the order of their columns: all of them (no `columns`), or those of a bracket.
        """
        if not 0 < keep <= sizes.size:
            return False
        edge = float(np.partition(sizes, sizes.size - keep)[sizes.size - keep])
        lower, upper = edge * (1.0 - slack), edge * (1.0 + slack)
        ties = np.flatnonzero((sizes >= lower) & (sizes <= upper))
        missing = keep - int((sizes > upper).sum())
        if not 0 < missing <= len(ties):
            # NaN spoils the count: a pass names the row, whatever is cut from it.
            return False
        last = ties[missing - 1]
        self.lower[row], self.upper[row] = lower, upper
        self.last_tie[row] = last if columns is None else columns[last]
        return columns is None or bool(sizes.min() < lower and upper < sizes.max())

    def apply(self, block: FloatArray, start: int) -> None:
        """Set to zero what is below, in place."""
        from flwr_robust import kernels

        kernels.sparsify(block, start, self.lower, self.upper, self.last_tie)


def _cut(rows: Rows, keep: int) -> _Cut:
    """Find where each row is cut: one pass over the data.

    A sample of the columns tells a bracket of each row's edge; the pass counts what lies beyond and collects what lies
    within. A row whose edge is not in its bracket, or on the rim of it, is read in full, one at a time.
    """
    cut = _Cut(rows.count, rows.d)
    # No float32 value has a square that float64 cannot hold, so that its scale need not be known.
    if keep == rows.d and rows.updates.dtype == np.float32:
        return cut
    slack = 1e-12 if rows.mixed else 0.0
    if rows.d < SAMPLE_FROM or keep == rows.d:
        return _cut_one_by_one(rows, range(rows.count), cut, keep, slack)
    lower, upper, share = _brackets(rows, keep)
    collector = partial(_Collector, lower=lower, upper=upper, room=int(ROOM * share * rows.d))
    readers = rows.scan(collector, dtype=_dtype(rows))
    cut.largest = float(np.max([reader.largest for reader in readers]))  # 0 where it need not be known
    above = np.sum([reader.above for reader in readers], axis=0)
    full = np.any([reader.room < 0 for reader in readers], axis=0)
    collected = sorted((part for reader in readers for part in reader.collected), key=lambda part: part.start)
    missed = [
        row
        for row in range(rows.count)
        if full[row] or not cut.find(row, *_of_row(collected, row), keep - int(above[row]), slack)
    ]
    del readers, collected
    return _cut_one_by_one(rows, missed, cut, keep, slack)


def _cut_one_by_one(rows: Rows, which: Sequence[int], cut: _Cut, keep: int, slack: float) -> _Cut:
    """Cut these rows by selection; each is held in full, so that the extra memory is one or two models'."""
    for row in which:
        sizes = rows.row(row)
        np.abs(sizes, out=sizes)
        cut.largest = max(cut.largest, float(sizes.max(initial=0.0)))
        if keep < rows.d:
            cut.find(row, sizes, None, keep, slack)
    if len(which):
        rows.passes += len(which) if rows.mixed else 1
    return cut


def _brackets(rows: Rows, keep: int) -> tuple[Weights, Weights, float]:
    """Values between which each row's keep-th largest absolute value lies, most likely: from evenly spaced columns.

    And which share of the columns lies between them.
    """
    count = min(max(rows.d // (60 if rows.mixed else 20), SAMPLE_LEAST), SAMPLE_MOST)
    spacing = max(rows.d * SAMPLE_RUN // count, SAMPLE_RUN)
    runs = np.arange(0, rows.d - SAMPLE_RUN + 1, spacing)
    columns = (runs[:, None] + np.arange(SAMPLE_RUN)).ravel()
    # Rows that are the updates are taken in their own dtype, which leaves room for a larger sample.
    sizes = rows.take(columns) if rows.mixed else rows.updates.take(columns)
    np.abs(sizes, out=sizes)
    share = 1.0 - keep / rows.d
    size = sizes.shape[1]
    # Three standard deviations of a rank, and what columns next to each other have in common.
    width = 3.0 * (share * (1.0 - share) / size) ** 0.5 + 0.001
    low = max(int((share - width) * size), 0)
    high = min(int(np.ceil((share + width) * size)), size - 1)
    sizes.partition((low, high), axis=1)
    return sizes[:, low].astype(np.float64), sizes[:, high].astype(np.float64), 2.0 * width


@dataclass
class _Collected:
    """Values of a block, row by row: row i's are at ``ends[i]:ends[i + 1]``, with their columns within the block."""

    start: int
    sizes: FloatArray
    columns: NDArray[np.uint16]
    ends: NDArray[np.int64]


def _of_row(collected: list[_Collected], row: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return a row's values and their columns, of blocks in order."""
    places = [(part, slice(part.ends[row], part.ends[row + 1])) for part in collected]
    columns = [part.start + part.columns[place].astype(np.int64) for part, place in places]
    return np.concatenate([part.sizes[place] for part, place in places]), np.concatenate(columns)


class _Collector(BlockReader):
    """Collects the absolute values of each row within its bracket, and counts those beyond."""

    def __init__(
        self, updates: Updates, width: int, *, lower: Weights, upper: Weights, room: int, **options: Any
    ) -> None:
        super().__init__(updates, width, **options)
        count = len(lower)
        dtype = options.get("dtype") or updates.dtype
        self.lower, self.upper = lower.astype(dtype), upper.astype(dtype)
        self.above, self.largest = np.zeros(count, dtype=np.int64), 0.0
        self.collected: list[_Collected] = []
        self.room = np.full(count, room, dtype=np.int64)
        # Columns within the block: two bytes each.
        self._columns = np.empty(count * (width // BLOCK_SHARE + 1), np.uint16)
        self._sizes = np.empty(self._columns.size, dtype)
        self._ends = np.empty(count, dtype=np.int64)

    def use(self, start: int, stop: int, block: FloatArray) -> None:
        """See `BlockReader.use`."""
        from flwr_robust import kernels

        found = (self.room, self._sizes, self._columns, self._ends)
        kernels.collect_between(block, self.lower, self.upper, self.above, *found)
        if self.updates.dtype == np.float64:
            self.largest = max(self.largest, float(np.abs(block).max(initial=0.0)))
        end = self._ends[-1]
        ends = np.append(0, self._ends)
        self.collected.append(_Collected(start, self._sizes[:end].copy(), self._columns[:end].copy(), ends))


def _statistics(rows: Rows, cut: _Cut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """L2 norm and positive direction purity of each sparsified row and layer, (m, layers); one pass."""
    make = partial(_Statistics, layers=rows.layers, cut=cut, count=rows.count)
    readers = rows.scan(make, dtype=_dtype(rows))
    norms = np.sqrt(np.sum([reader.layer_squares for reader in readers], axis=0))
    signs = np.sum([reader.signs for reader in readers], axis=0)
    nonzero = signs.sum(axis=2)
    balance = (signs[..., 0] - signs[..., 1]) / np.maximum(nonzero, 1)
    return norms, (1.0 + balance) / 2.0


def _dtype(rows: Rows) -> Any:
    """Mixed rows are read in float64, as their edges were found."""
    return np.float64 if rows.mixed else None


def _within(values: NDArray[np.float64], radius: float) -> Booleans:
    """Whether the MZ-score of each value (m, layers) among its column is within the radius."""
    median, deviation = np.median(values, axis=0), values.std(axis=0)
    # Values that agree up to rounding have no deviation to speak of.
    agree = deviation <= 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    scores = (values - median) / np.where(agree, 1.0, deviation)
    passed: Booleans = agree | (np.abs(scores) <= radius * (1 + 1e-12))
    return passed


class _Statistics(BlockReader):
    def __init__(
        self, updates: Updates, width: int, *, layers: Sequence[Layer], cut: _Cut, count: int, **options: Any
    ) -> None:
        super().__init__(updates, width, **options)
        self.layers, self.cut = layers, cut
        # Norms are only compared: relative to the largest value no square overflows.
        self.scale = 1.0 / cut.largest if 0.0 < cut.largest < np.inf else 1.0
        self.layer_squares = np.zeros((count, len(layers)))
        self.signs = np.zeros((count, len(layers), 2), dtype=np.int64)

    def use(self, start: int, stop: int, block: FloatArray) -> None:
        """See `BlockReader.use`."""
        from flwr_robust import kernels

        self.cut.apply(block, start)
        for layer, first, last, at in pieces(self.layers, start, stop):
            columns = (at, at + last - first)
            kernels.layer_statistics(block, columns, layer, self.scale, self.layer_squares, self.signs)


class _Average(BlockReader):
    """Mean of the sparsified rows that pass, layer by layer; their median where none does."""

    def __init__(
        self,
        updates: Updates,
        width: int,
        *,
        layers: Sequence[Layer],
        cut: _Cut,
        passed: Booleans,
        vector: FloatArray,
        **options: Any,
    ) -> None:
        super().__init__(updates, width, **options)
        self.layers, self.cut, self.passed, self.vector = layers, cut, passed, vector

    def use(self, start: int, stop: int, block: FloatArray) -> None:
        """See `BlockReader.use`."""
        from flwr_robust import kernels

        self.cut.apply(block, start)
        for layer, first, last, at in pieces(self.layers, start, stop):
            passed = self.passed[:, layer]
            result = np.zeros(last - first)
            if passed.any():
                which = np.flatnonzero(passed)
                kernels.add_rows(block, which, np.full(len(which), 1.0 / len(which)), at, result)
            else:
                Median().reduce(np.ascontiguousarray(block[:, at : at + last - first]), 0, result)
            self.vector[start + at : start + at + last - first] = result
