"""LASA: sparsify each row, then filter and average layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
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

    def find(self, row: int, sizes: FloatArray, keep: int, slack: float) -> None:
        """Find the keep-th largest of a row's absolute values by selection."""
        self.largest = max(self.largest, float(sizes.max(initial=0.0)))
        if keep == sizes.size:
            return
        edge = float(np.partition(sizes, sizes.size - keep)[sizes.size - keep])
        lower, upper = edge * (1.0 - slack), edge * (1.0 + slack)
        ties = np.flatnonzero((sizes >= lower) & (sizes <= upper))
        missing = keep - int((sizes > upper).sum())
        # NaN spoils the count: the next pass names the row, whatever is cut from it.
        if 0 < missing <= len(ties):
            self.lower[row], self.upper[row], self.last_tie[row] = lower, upper, ties[missing - 1]

    def apply(self, block: FloatArray, start: int) -> None:
        """Set to zero what is below, in place."""
        from flwr_robust import kernels

        kernels.sparsify(block, start, self.lower, self.upper, self.last_tie)


def _cut(rows: Rows, keep: int) -> _Cut:
    """Find where each row is cut: one pass over the data where the rows are the updates themselves.

    One row at a time is held in full, so that the extra memory is one or two models'.
    """
    cut = _Cut(rows.count, rows.d)
    # No float32 value has a square that float64 cannot hold, so that its scale need not be known.
    if keep < rows.d or rows.updates.dtype == np.float64:
        slack = 1e-12 if rows.mixed else 0.0
        for row in range(rows.count):
            sizes = rows.row(row)
            cut.find(row, np.abs(sizes, out=sizes), keep, slack)
        rows.passes += rows.count if rows.mixed else 1
    return cut


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
            part = block[:, at : at + last - first]
            kernels.layer_statistics(part, layer, self.scale, self.layer_squares, self.signs)


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
        self.cut.apply(block, start)
        for layer, first, last, at in pieces(self.layers, start, stop):
            part, passed = block[:, at : at + last - first], self.passed[:, layer]
            result = np.empty(last - first)
            if passed.any():
                result[:] = (passed / passed.sum()) @ part.astype(np.float64)
            else:
                Median().reduce(np.ascontiguousarray(part), 0, result)
            self.vector[start + at : start + at + last - first] = result
