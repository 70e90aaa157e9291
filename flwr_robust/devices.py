"""Where blocks of columns are worked on: the CPU's compiled loops, or torch on a device that blocks stream to.

A pass does not know which. It takes its blocks from a `Feed`, and `flwr_robust.kernels.of` tells the functions
that work on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flwr_robust.sources import FloatArray

if TYPE_CHECKING:
    from flwr_robust.mixer import Mixer
    from flwr_robust.updates import Updates

# A (rows, columns) array or, on a device of torch's, a tensor.
Block = Any
Sums = NDArray[np.float64]


class Feed(Protocol):
    """A worker's supply of blocks; what it keeps belongs to that worker's thread."""

    def give(self, start: int, stop: int, work: Callable[[Block], None]) -> None:
        """Read the columns ``start:stop`` and call `work` on them."""

    def mixed(self, block: Block) -> Block:
        """Return the block behind the mixing map, if there is one, in the feed's dtype."""

    def weigh(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        """Add ``weights @ rows`` of the columns ``start:stop`` to `out`, and the rows' squares to `squares`."""


class Device(ABC):
    """Where blocks are worked on.

    Attributes
    ----------
    name : str
        What users call it.
    block_bytes : int
        Size of a block of float64 values.
    max_width : int
        Columns a block at most.
    host_bytes : int
        What a value of a block takes of the CPU's memory.
    """

    name: str
    block_bytes: int
    max_width: int
    host_bytes: int

    def workers(self, threads: int) -> int:
        """Return how many of so many threads are of use."""
        return threads

    @abstractmethod
    def feed(
        self,
        updates: Updates,
        width: int,
        rows: Sequence[int] | None = None,
        mixer: Mixer | None = None,
        dtype: Any = None,
    ) -> Feed:
        """Return a worker's feed of blocks of up to `width` columns; see `flwr_robust.passes.BlockReader`."""


class Compiled(Device):
    """The CPU, by compiled loops."""

    name = "compiled"
    # A block of all rows should stay in a core's share of the last-level cache.
    block_bytes = 2 * 2**20
    max_width = 16384
    host_bytes = 12  # a float32 value and its float64 copy

    def feed(
        self,
        updates: Updates,
        width: int,
        rows: Sequence[int] | None = None,
        mixer: Mixer | None = None,
        dtype: Any = None,
    ) -> Feed:
        """See `Device.feed`."""
        return _HostFeed(updates, width, rows, mixer, dtype)


CPU = Compiled()


class _HostFeed:
    def __init__(
        self, updates: Updates, width: int, rows: Sequence[int] | None, mixer: Mixer | None, dtype: Any
    ) -> None:
        self.updates, self.width, self.rows, self.mixer = updates, width, rows, mixer
        self.dtype = np.dtype(dtype or updates.dtype)
        self.count = updates.n if rows is None else len(rows)

    def give(self, start: int, stop: int, work: Callable[[Block], None]) -> None:
        block = shaped(self._read, self.count, stop - start)
        self.updates.read(start, stop, block, self.rows)
        work(block)

    def mixed(self, block: Block) -> Block:
        if self.mixer is None and self.dtype == block.dtype:
            return block
        out = shaped(self._mixed, self.count if self.mixer is None else self.mixer.rows, block.shape[1])
        if self.mixer is None:
            out[:] = block
        else:
            self.mixer(block, out)
        return out

    def weigh(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        # The rows are read where they lie.
        self.updates.accumulate(start, stop, weights, out, squares)

    # Flat, so that blocks of any width lie in one piece; made when they are needed.
    @cached_property
    def _read(self) -> FloatArray:
        return np.empty(self.count * self.width, self.updates.dtype)

    @cached_property
    def _mixed(self) -> FloatArray:
        return np.empty((self.count if self.mixer is None else self.mixer.rows) * self.width, self.dtype)


def shaped(flat: Any, rows: int, columns: int) -> Any:
    """Return the beginning of a flat buffer as a block of this size, in one piece."""
    return flat[: rows * columns].reshape(rows, columns)


def choose_device(device: Any, owner: str) -> Device:
    """Return the device of this name (or torch.device); None is the CPU by compiled loops.

    Raises
    ------
    ValueError
        If there is no such device, or torch is missing.
    """
    if device is None:
        return CPU
    given = f"{owner} was given device = {str(device)!r}"
    try:
        from flwr_robust.torch_device import find_device
    except ImportError as error:
        allowed = "install torch, or leave device out to use compiled loops."
        raise ValueError(f"{given}, but torch cannot be imported ({error}); {allowed}") from error
    return find_device(str(device), given)
