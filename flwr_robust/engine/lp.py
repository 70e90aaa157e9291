"""Distances in other lp norms than the Euclidean: no Gram matrix has them, so each takes a pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.device import Block, FloatArray, Sums
from flwr_robust.engine.geometry import Matrix, Weights
from flwr_robust.engine.kernels import powers
from flwr_robust.engine.passes import BlockFunction, Merge, Pass
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Updates

# Makes the centre (columns,) of a block (rows, columns) that begins with the given column of all.
Centre = Callable[[FloatArray, int], Weights]
# The largest differences, and the sums of powers of differences relative to them.
Powers = tuple[Sums, Sums]


def squared_lp_distances(updates: Updates, mixing: Matrix, p: float, threads: int | None = None) -> Matrix:
    """(m, m) squared lp distances of the rows ``mixing @ updates``, relative to the largest; one pass."""
    add, make, merge = _pairs(p, len(mixing))
    return _relative_squares(Pass(updates, updates.device, mixing, np.float64, threads).read(add, make, merge), p)


def distances_of(rows: Rows, p: float) -> Matrix:
    """Return the (m, m) squared lp distances of the rows a rule is given, relative to the largest; one pass."""
    return _relative_squares(rows.scan(*_pairs(p, rows.count), dtype=np.float64, tensors=True), p)


def _pairs(p: float, m: int) -> tuple[BlockFunction[Powers], Callable[[int], Powers], Merge[Powers]]:
    """Return what sums up the powers of the differences of each pair of m rows."""

    def add(block: Block, _: int, found: Powers) -> None:
        operations.add_lp_powers(block, p, *found)

    return add, lambda _: (np.zeros((m, m)), np.zeros((m, m))), _merge(p)


def _relative_squares(found: Powers, p: float) -> Matrix:
    distances = _norms(found, p)
    largest = distances.max(initial=0.0) or 1.0
    # They are only compared: relative to the largest, their squares stay finite.
    squares: Matrix = np.square((distances + distances.T) / largest)
    return squares


def distances_to(rows: Rows, centre: Centre, p: float, which: Sequence[int] | None = None) -> Weights:
    """Return the lp distance of each row (or of some of them) to a centre that is made of them; one pass."""
    count = rows.count if which is None else len(which)

    def add(block: FloatArray, start: int, found: Powers) -> None:
        mine = block if which is None else block[list(which)]
        powers.add_lp_powers_to(mine, centre(mine, start), p, *found)

    return _norms(rows.scan(add, lambda _: (np.zeros(count), np.zeros(count)), _merge(p), dtype=np.float64), p)


def _merge(p: float) -> Merge[Powers]:
    """Return what adds powers to others, each relative to its own largest differences."""

    def merge(total: Powers, found: Powers) -> None:
        largest = np.maximum(total[0], found[0])
        if not np.isinf(p):
            safe = np.where(largest > 0, largest, 1.0)
            with np.errstate(invalid="ignore"):
                total[1][...] = total[1] * (total[0] / safe) ** p + found[1] * (found[0] / safe) ** p
        total[0][...] = largest

    return merge


def _norms(found: Powers, p: float) -> NDArray[np.float64]:
    """Return the lp norms whose powers were summed up."""
    largest, sums = found
    norms: NDArray[np.float64] = largest if np.isinf(p) else largest * sums ** (1 / p)
    return norms
