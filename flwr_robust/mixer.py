"""Mixed blocks: ``mixing @ block``, with as little work as the mixing matrix needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.sources import FloatArray

# Weighted rows that a sparse mix may add, as a share of those in the full product: beyond, BLAS is faster.
SPARSE = 0.6


class Mixer:
    """Applies one mixing matrix to many blocks, added up in float64.

    The rows of a mixing matrix mostly agree: clipping has one weight a row, a selection a single one, and
    nearest neighbours are nearly the same ones for all. So a common part is added up once, and each row of the
    result adds what differs.

    Parameters
    ----------
    mixing : (m, n) float64 array
        Weights.
    """

    def __init__(self, mixing: NDArray[np.float64]) -> None:
        self.matrix = np.ascontiguousarray(mixing, dtype=np.float64)
        # The middle weight of each column, one that occurs, so that differences to it vanish exactly.
        common = np.sort(self.matrix, axis=0)[len(self.matrix) // 2]
        differences = self.matrix - common
        different, rows = np.nonzero(differences)
        self.sparse = len(rows) + np.count_nonzero(common) <= SPARSE * self.matrix.size or len(self.matrix) == 1
        self._rows, self._weights = rows.astype(np.int64), differences[different, rows]
        self._starts = np.searchsorted(different, np.arange(len(self.matrix) + 1)).astype(np.int64)
        used = np.flatnonzero(common).astype(np.int64)
        self._common = (used, common[used])

    @property
    def rows(self) -> int:
        """Rows of the result."""
        return len(self.matrix)

    def __call__(self, block: FloatArray, out: NDArray[Any]) -> None:
        """Write ``mixing @ block`` (n, columns) into ``out`` (m, columns)."""
        from flwr_robust import kernels

        if self.sparse:
            kernels.mix_sparsely(block, self._common, self._starts, self._rows, self._weights, out)
        else:
            out[:] = self.matrix @ block.astype(np.float64, copy=False)
