"""Distances in other lp norms than the Euclidean: no Gram matrix has them, so each takes a pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.device import Block, FloatArray, Sums
from flwr_robust.engine.geometry import Matrix, Weights
from flwr_robust.engine.kernels import powers
from flwr_robust.engine.passes import Pass
from flwr_robust.engine.rows import Rows
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
    data = Pass(updates, updates.device, mixing, np.float64, threads)
    distances = _norms(data.read(add, lambda _: (np.zeros((m, m)), np.zeros((m, m))), _merge(p)), p)
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

    return _norms(rows.scan(add, lambda _: (np.zeros(count), np.zeros(count)), _merge(p), dtype=np.float64), p)


def _merge(p: float) -> Callable[[Powers, Powers], None]:
    """Return what adds powers to others, each relative to its own largest differences."""

    def merge(total: Powers, found: Powers) -> None:
        largest = np.maximum(total[0], found[0])
        if not np.isinf(p):
            safe = np.where(largest > 0, largest, 1.0)
            total[1][...] = total[1] * (total[0] / safe) ** p + found[1] * (found[0] / safe) ** p
        total[0][...] = largest

    return merge


def _norms(found: Powers, p: float) -> NDArray[np.float64]:
    """Return the lp norms whose powers were summed up."""
    largest, sums = found
    norms: NDArray[np.float64] = largest if np.isinf(p) else largest * sums ** (1 / p)
    return norms
