"""Distances in other lp norms than the Euclidean: no Gram matrix tells them, so each takes a pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.device import Block, FloatArray
from flwr_robust.engine.geometry import Matrix, Weights
from flwr_robust.engine.kernels import powers
from flwr_robust.engine.passes import BlockReader, Rows, add_up, mixed_by, read_all
from flwr_robust.engine.updates import Updates

# Makes the centre (columns,) of a block (rows, columns) that begins with the given column of all.
Centre = Callable[[FloatArray, int], Weights]


def squared_lp_distances(updates: Updates, mixing: Matrix, p: float, threads: int | None = None) -> Matrix:
    """(m, m) squared lp distances of the rows ``mixing @ updates``, relative to the largest; one pass."""
    options = mixed_by(updates.device, mixing) | {"p": p, "count": len(mixing), "device": updates.device}
    return _relative_squares(read_all(updates, lambda width: _Pairs(updates, width, **options), threads), p)


def distances_of(rows: Rows, p: float) -> Matrix:
    """Return the (m, m) squared lp distances of the rows a rule is given, relative to the largest; one pass."""
    readers = rows.scan(partial(_Pairs, p=p, count=rows.count), dtype=np.float64, tensors=True)
    return _relative_squares(readers, p)


def _relative_squares(readers: Sequence[_Pairs], p: float) -> Matrix:
    distances = _norms(readers, p)
    largest = distances.max(initial=0.0) or 1.0
    # They are only compared: relative to the largest, their squares stay finite.
    squares: Matrix = np.square((distances + distances.T) / largest)
    return squares


def distances_to(rows: Rows, centre: Centre, p: float, which: Sequence[int] | None = None) -> Weights:
    """Return the lp distance of each row (or of some of them) to a centre that is made of them; one pass."""
    chosen = None if which is None else list(which)
    count = rows.count if chosen is None else len(chosen)
    readers = rows.scan(partial(_ToCentre, centre=centre, p=p, which=chosen, count=count), dtype=np.float64)
    return _norms(readers, p)


def _norms(readers: Sequence[Any], p: float) -> NDArray[np.float64]:
    """Return the lp norms whose powers the readers summed up (`sums`), each relative to its own `scales`."""
    scale: NDArray[np.float64] = np.max([reader.scales for reader in readers], axis=0)
    if np.isinf(p):
        return scale
    safe = np.where(scale > 0, scale, 1.0)
    total = add_up([reader.sums * (reader.scales / safe) ** p for reader in readers])
    norms: NDArray[np.float64] = scale * total ** (1 / p)
    return norms


class _Pairs(BlockReader):
    def __init__(self, updates: Updates, width: int, *, p: float, count: int, **options: Any) -> None:
        super().__init__(updates, width, **options)
        self.p = p
        self.scales, self.sums = np.zeros((count, count)), np.zeros((count, count))

    def use(self, start: int, stop: int, block: Block) -> None:
        operations.add_lp_powers(block, self.p, self.scales, self.sums)


class _ToCentre(BlockReader):
    def __init__(
        self,
        updates: Updates,
        width: int,
        *,
        centre: Centre,
        p: float,
        which: list[int] | None,
        count: int,
        **options: Any,
    ) -> None:
        super().__init__(updates, width, **options)
        self.centre, self.p, self.which = centre, p, which
        self.scales, self.sums = np.zeros(count), np.zeros(count)

    def use(self, start: int, stop: int, block: Block) -> None:
        mine = block if self.which is None else block[self.which]
        powers.add_lp_powers_to(mine, self.centre(mine, start), self.p, self.scales, self.sums)
