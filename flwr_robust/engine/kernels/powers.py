"""Sums of powers of differences, for lp norms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.kernels.compiled import compiled


@compiled()
def add_lp_powers(block: NDArray[Any], p: float, scales: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Add ``sum_c (|x_ic - x_jc| / scale_ij)^p`` to ``sums`` (rows, rows), for each i < j.

    ``scales`` (rows, rows) holds the largest difference of each pair so far: powers up to the
    sixteenth then neither over- nor underflow. For p = infinity only the scales are kept.
    """
    rows, columns = block.shape
    for i in range(rows):
        for j in range(i + 1, rows):
            largest = 0.0
            for c in range(columns):
                largest = max(largest, abs(np.float64(block[i, c]) - np.float64(block[j, c])))
            if largest > scales[i, j]:
                sums[i, j] *= (scales[i, j] / largest) ** p
                scales[i, j] = largest
            if scales[i, j] > 0.0 and not np.isinf(p):
                inverse = 1.0 / scales[i, j]
                added = 0.0
                for c in range(columns):
                    added += (abs(np.float64(block[i, c]) - np.float64(block[j, c])) * inverse) ** p
                sums[i, j] += added


@compiled()
def add_lp_powers_to(
    block: NDArray[Any],
    centre: NDArray[np.float64],
    p: float,
    scales: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add ``sum_c (|x_ic - centre_c| / scale_i)^p`` to ``sums`` (rows,); scales as in `add_lp_powers`."""
    rows, columns = block.shape
    for i in range(rows):
        largest = 0.0
        for c in range(columns):
            largest = max(largest, abs(np.float64(block[i, c]) - centre[c]))
        if largest > scales[i]:
            sums[i] *= (scales[i] / largest) ** p
            scales[i] = largest
        if scales[i] > 0.0 and not np.isinf(p):
            inverse = 1.0 / scales[i]
            added = 0.0
            if p == 2.0:  # general powers take ten times as long
                for c in range(columns):
                    difference = (np.float64(block[i, c]) - centre[c]) * inverse
                    added += difference * difference
            else:
                for c in range(columns):
                    added += (abs(np.float64(block[i, c]) - centre[c]) * inverse) ** p
            sums[i] += added
