"""Where LASA cuts each row, and what is left of it: as `lasa_survey` finds them, and the mean uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.updates import FloatArray, Layer, pieces

Weights = NDArray[np.float64]


class Cut:
    """Where each row is cut: values at its edge count as equal, and stay up to a last column.

    Rows behind a mixing map are made twice, which may differ in the last digits: there the edge has a width.

    Attributes
    ----------
    lower, upper : (m,) float64 array
        The edge of each row.
    last_tie : (m,) int64 array
        The last column in which a value at the edge stays.
    """

    def __init__(self, count: int, d: int) -> None:
        self.lower, self.upper = np.zeros(count), np.zeros(count)
        self.last_tie = np.full(count, d, dtype=np.int64)

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

    def edges(self, dtype: Any) -> tuple[FloatArray, FloatArray]:
        """Return the edges in the dtype of the rows, which loses nothing: they are values of the rows."""
        return self.lower.astype(dtype), self.upper.astype(dtype)

    def of(self, row: int) -> Cut:
        """Return the cut of one row alone."""
        alone = Cut(0, 0)
        for name, value in vars(self).items():
            setattr(alone, name, value[row : row + 1])
        return alone

    def apply(self, block: FloatArray, start: int) -> None:
        """Set to zero what is below in a block that begins with column `start`, in place."""
        from flwr_robust import kernels

        kernels.sparsify(block, start, self.lower, self.upper, self.last_tie)


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

    @classmethod
    def total(cls, parts: Sequence[Statistics]) -> Statistics:
        """Add up what the threads found."""
        return cls(np.sum([part.squares for part in parts], axis=0), np.sum([part.signs for part in parts], axis=0))

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
        from flwr_robust import kernels

        for layer, first, last, at in pieces(layers, 0, values.size):
            mine = (self.squares[row : row + 1], self.signs[row : row + 1])
            kernels.layer_statistics(values[None], (at, at + last - first), layer, scale, *mine)
