"""Where blocks of columns are worked on: what passes ask of such a place, and what they do with a block there.

The CPU (`flwr_robust.engine.cpu`) works on arrays by compiled loops, a device of torch's
(`flwr_robust.engine.torch_device`) on tensors. Each registers its versions of the functions below, which choose by the
block that they are given; `flwr_robust.engine.choose` finds a device by its name. Nothing here knows numba or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Sums = NDArray[np.float64]
# A (rows, columns) array or, on a device of torch's, a tensor.
Block = Any


class Source(Protocol):
    """What devices ask of updates; see `flwr_robust.engine.updates.Updates`."""

    n: int
    d: int
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """Copy the columns ``start:stop`` of `rows` (all by default) into ``out[:, :stop - start]``."""

    def accumulate(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None = None) -> None:
        """Add ``weights @ rows`` of the columns ``start:stop`` to `out`, and the rows' squares to `squares`."""


class Feed(Protocol):
    """A thread's supply of blocks; its buffers belong to that thread."""

    def give(self, start: int, stop: int, work: Callable[[Block], None]) -> None:
        """Read the columns ``start:stop`` and call `work` on them."""

    def mixed(self, block: Block) -> Block:
        """Return the block behind the mixing map, if there is one, in the feed's dtype."""

    def weigh(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        """Add ``weights @ rows`` of the columns ``start:stop`` to `out`, and the rows' squares to `squares`."""


class Device(Protocol):
    """A place where blocks are worked on.

    Attributes
    ----------
    name : str
        What users call it.
    block_bytes : int
        Size of a block of float64 values.
    max_width : int
        Columns of a block at most.
    host_bytes : int
        What a value of a block takes of the CPU's memory.
    """

    name: str
    block_bytes: int
    max_width: int
    host_bytes: int

    def workers(self, threads: int) -> int:
        """Return how many of these threads are of use."""

    def mixer(self, mixings: Sequence[NDArray[np.float64]]) -> Any:
        """Return what feeds need to apply mixing matrices (m, n), one after the other; threads share it."""

    def feed(self, updates: Source, width: int, mixer: Any = None, dtype: Any = None) -> Feed:
        """Return a thread's feed of blocks of up to `width` columns.

        Parameters
        ----------
        updates : Source
            What is read.
        width : int
            Columns of a block at most.
        mixer : optional
            From `mixer`: what the blocks are mixed by.
        dtype : dtype, optional
            Of the mixed blocks; by default the updates'.
        """


@singledispatch
def squared_norms(block: Block, out: Sums) -> None:
    """Add each row's sum of squares to ``out`` (rows,), in float64; NaN and infinity come through."""
    raise _unknown(block)


@singledispatch
def largest(block: Block, out: Sums) -> None:
    """Keep each row's largest absolute value so far in ``out`` (rows,); NaN and infinity come through."""
    raise _unknown(block)


@singledispatch
def add_gram(block: Block, gram: Sums) -> None:
    """Add ``block @ block.T`` to ``gram`` (rows, rows), at least on and above the diagonal, in float64."""
    raise _unknown(block)


@singledispatch
def add_lp_powers(block: Block, p: float, scales: Sums, sums: Sums) -> None:
    """Add ``sum_c (|x_ic - x_jc| / scale_ij)^p`` to ``sums`` (rows, rows), for each i < j.

    ``scales`` (rows, rows) holds the largest difference of each pair so far: powers up to the
    sixteenth then neither over- nor underflow. For p = infinity only the scales are kept.
    """
    raise _unknown(block)


@singledispatch
def mean_of_sorted(block: Block, first: int, last: int, out: Sums) -> None:
    """Write the mean of the sorted values ``first:last`` of each column into ``out``; the block may be overwritten."""
    raise _unknown(block)


@singledispatch
def mean_around_median(block: Block, keep: int, out: Sums) -> None:
    """Write the mean of the `keep` values nearest to each column's median into ``out``; the block may be sorted.

    For an even number of rows the median is the mean of the middle two; of two values that are equally
    near, the lower one counts.
    """
    raise _unknown(block)


@singledispatch
def weigh(block: Block, weights: Sums, out: Sums) -> None:
    """Write ``weights @ block`` into ``out`` (columns,), in float64."""
    raise _unknown(block)


@singledispatch
def store(block: Block, out: NDArray[Any]) -> None:
    """Copy the block into ``out``, of its shape."""
    raise _unknown(block)


def _unknown(block: Block) -> TypeError:
    return TypeError(f"blocks are arrays, or tensors of a device of torch's; got {type(block).__name__}.")
