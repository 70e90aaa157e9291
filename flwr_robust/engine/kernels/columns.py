"""What is found in each column by itself: sums of signs, cuts in two, lines through the sorted values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def sum_of_signs(block: NDArray[Any], out: NDArray[np.int64]) -> None:
    """Add the signs of each column's values to ``out`` (columns,)."""
    for i in range(block.shape[0]):
        row = block[i]
        for c in range(row.size):
            out[c] += np.int64(row[c] > 0) - np.int64(row[c] < 0)
