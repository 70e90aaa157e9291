"""Distances in other lp norms than the Euclidean: no Gram matrix has them, so each takes a pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.device import Block, FloatArray, Sums
from flwr_robust.engine.geometry import Matrix, Weights
from flwr_robust.engine.kernels import powers
from flwr_robust.engine.passes import Rows, add_up, read
from flwr_robust.engine.updates import Updates

# Makes the centre (columns,) of a block (rows, columns) that begins with the given column of all.
Centre = Callable[[FloatArray, int], Weights]
# The largest differences, and the sums of powers of differences relative to them.
Powers = tuple[Sums, Sums]


def squared_lp_distances(updates: Updates, mixing: Matrix, p: float, threads: int | None = None) -> Matrix:
    """(m, m) squared lp distances of the rows ``mixing @ updates``, relative to the largest; one pass."""

    def add(block: Block, _: int, found: Powers) -> None:
        operations.add_lp_powers(block, p, *found)

    m = len(mixing)
    distances = _norms(read(updates, add, lambda _: (np.zeros((m, m)), np.zeros((m, m))), threads, mixing=mixing), p)
    largest = distances.max(initial=0.0) or 1.0
    # They are only compared: relative to the largest, their squares stay finite.
    squares: Matrix = np.square((distances + distances.T) / largest)
    return squares


def distances_of(rows: Rows, p: float) -> Matrix:
    """Return the (m, m) squared lp distances of the rows a rule is given, relative to the largest; one pass."""
    rows.passes += 1
    return squared_lp_distances(rows.points, rows.geometry.mixing, p, rows.threads)


def distances_to(rows: Rows, centre: Centre, p: float, which: Sequence[int] | None = None) -> Weights:
    """Return the lp distance of each row (or of some of them) to a centre that is made of them; one pass."""
    count = rows.count if which is None else len(which)

    def add(block: FloatArray, start: int, found: Powers) -> None:
        mine = block if which is None else block[list(which)]
        powers.add_lp_powers_to(mine, centre(mine, start), p, *found)

    return _norms(rows.scan(add, lambda _: (np.zeros(count), np.zeros(count)), dtype=np.float64), p)


def _norms(found: Sequence[Powers], p: float) -> NDArray[np.float64]:
    """Return the lp norms whose powers threads summed up, each relative to its own largest difference."""
    largest: NDArray[np.float64] = np.max([scales for scales, _ in found], axis=0)
    if np.isinf(p):
        return largest
    safe = np.where(largest > 0, largest, 1.0)
    total = add_up([sums * (scales / safe) ** p for scales, sums in found])
    norms: NDArray[np.float64] = largest * total ** (1 / p)
    return norms
