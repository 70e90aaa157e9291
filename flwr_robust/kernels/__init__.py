"""Compiled loops over blocks of columns.

Each is compiled once by numba and cached on disk; `warm_up` compiles them all for both dtypes. `of` finds the same
functions for blocks that are torch tensors.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from flwr_robust.kernels.powers import add_lp_powers, add_lp_powers_to
from flwr_robust.kernels.reading import read_rows, weigh_rows
from flwr_robust.kernels.signs import (
    add_sparsified,
    count_signs,
    gather_row,
    layer_statistics,
    settle,
    sparsify,
    survey,
)
from flwr_robust.kernels.sorting import (
    mean_around_median,
    mean_near_median,
    mean_of_sorted,
    mean_rows,
    sort_rows,
    sorting_network,
)
from flwr_robust.kernels.sums import (
    add_gram,
    add_rows,
    add_weighted,
    largest,
    mix_sparsely,
    squared_norms,
    store,
)

__all__ = [
    "add_gram",
    "add_lp_powers",
    "add_lp_powers_to",
    "add_rows",
    "add_sparsified",
    "add_weighted",
    "count_signs",
    "gather_row",
    "largest",
    "layer_statistics",
    "mean_around_median",
    "mean_near_median",
    "mean_of_sorted",
    "mean_rows",
    "mix_sparsely",
    "of",
    "read_rows",
    "settle",
    "sort_rows",
    "sorting_network",
    "sparsify",
    "squared_norms",
    "store",
    "survey",
    "warm_up",
    "weigh_rows",
]


class BlockFunctions(Protocol):
    """What passes and coordinate-wise rules do with a (rows, columns) block, for arrays and for tensors.

    A block may be overwritten; sums and results are arrays of the CPU.
    """

    def squared_norms(self, block: Any, out: NDArray[np.float64]) -> None:
        """Add each row's sum of squares to ``out`` (rows,), in float64."""

    def largest(self, block: Any, out: NDArray[np.float64]) -> None:
        """Keep each row's largest absolute value in ``out`` (rows,)."""

    def add_gram(self, block: Any, gram: NDArray[np.float64]) -> None:
        """Add ``block @ block.T`` to ``gram``, at least on and above the diagonal, in float64."""

    def add_lp_powers(self, block: Any, p: float, scales: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
        """Add the powers of the rows' differences to ``sums`` (rows, rows), relative to their largest."""

    def mean_of_sorted(self, block: Any, first: int, last: int, out: NDArray[np.float64]) -> None:
        """Write the mean of the sorted values ``first:last`` of each column into ``out`` (columns,)."""

    def mean_around_median(self, block: Any, keep: int, out: NDArray[np.float64]) -> None:
        """Write the mean of the `keep` values nearest to each column's median into ``out`` (columns,)."""

    def store(self, block: Any, out: NDArray[Any]) -> None:
        """Copy the block into ``out``, of its shape."""


def of(block: Any) -> BlockFunctions:
    """Return the functions for this block: those of this package for arrays, torch's for tensors."""
    if isinstance(block, np.ndarray):
        return cast(BlockFunctions, sys.modules[__name__])
    from flwr_robust.kernels import tensors

    return tensors


def warm_up() -> None:
    """Compile (or load from the cache on disk) every kernel for float32 and float64."""
    from flwr_robust.mixer import Mixer
    from flwr_robust.sources import Part

    for dtype in (np.float32, np.float64):
        block = np.zeros((3, 4), dtype=dtype)
        sort_rows(block, sorting_network(3, 0, 3))
        mean_rows(block, 0, 3, np.empty(4))
        squared_norms(block, np.zeros(3))
        add_gram(block, np.zeros((3, 3)))
        Mixer(np.eye(3))(block, np.empty((3, 4), dtype=dtype))
        add_weighted(block[0], 1.0, np.zeros(4))
        part = Part(list(block), block[0], np.dtype(dtype))
        part.read(0, 4, None, block.copy(), 0)
        part.accumulate(0, 4, np.ones(3), np.zeros(4), None)
        mean_near_median(block, 2, np.empty(4))
        count_signs(block, np.zeros((3, 3), dtype=np.int64))
        add_rows(block, np.array([0]), np.ones(1), 0, np.zeros(4))
        _warm_up_lasa(block)
    wide = np.zeros((3, 4))
    add_lp_powers(wide, 3.0, np.zeros((3, 3)), np.zeros((3, 3)))
    add_lp_powers_to(wide, np.zeros(4), 3.0, np.zeros(3), np.zeros(3))


def _warm_up_lasa(block: NDArray[Any]) -> None:
    from flwr_robust.sources import address_of

    rows = len(block)
    zeros, edges, ties = np.zeros(rows, block.dtype), np.zeros(rows), np.zeros(rows, dtype=np.int64)
    squares, signs = np.zeros((rows, 1)), np.zeros((rows, 1, 2), dtype=np.int64)
    room, near, ends = np.zeros(rows, dtype=np.int64), np.zeros(8, dtype=np.uint8), np.zeros(rows + 1, dtype=np.int64)
    values, places = np.empty(block.size, block.dtype), np.empty(block.size, dtype=np.uint16)
    survey(block, (0, 4), 0, (zeros, zeros), 1.0, squares, signs, room, near, values, places, ends)
    addresses = np.array([[address_of(values), address_of(places)]], dtype=np.uint64)
    gather_row(0, addresses, ends[None], ends, values, places, ends)
    settle(values, places, ends, 0, 0, (edges, edges), ties, 1.0, squares, signs)
    sparsify(block, 0, edges, edges, ties)
    layer_statistics(block, (0, 4), 0, 1.0, squares, signs)
    add_sparsified(block, 0, np.array([0]), 0, (zeros, zeros), ties, np.zeros(4))
