"""Devices of torch's: blocks stream to them, a few at a time. Imported where a device or a tensor is given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, cached_property
from queue import LifoQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flwr_robust.devices import CPU, Block, Device, Feed, Sums, choose_device, shaped

if TYPE_CHECKING:
    from flwr_robust.mixer import Mixer
    from flwr_robust.updates import Updates

# Blocks on a device at a time, of all passes of the process: one comes, one is worked on, one's results go.
RESIDENT = 3
# Threads that read: more than there are places, so that a block is ready whenever one becomes free.
WORKERS = 2 * RESIDENT
# Of a block as float64 on a GPU: large enough to hide what each copy and each call costs beside the work itself.
BLOCK_BYTES = 32 * 2**20
DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def find_device(name: str, given: str) -> TorchDevice:
    """Return the device of this name; `given` begins the sentence that an error says.

    Raises
    ------
    ValueError
        If there is none.
    """
    kinds = "choose 'cpu' (torch's), 'cuda' or 'cuda:N', or leave it out for the compiled loops."
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{given}, which names no device of torch's; {kinds}") from error
    if device.type == "cpu":
        return torch_device("cpu")
    if device.type != "cuda":
        raise ValueError(f"{given}, which sums in float64 are not known to work on; {kinds}")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= found:
        raise ValueError(f"{given}, but torch {torch.__version__} sees {found or 'no'} CUDA devices here; {kinds}")
    return torch_device(f"cuda:{index if device.index is not None else torch.cuda.current_device()}")


def device_of(tensor: Any) -> Device:
    """Return where blocks of a tensor are worked on: where it lies if that is CUDA, else by compiled loops."""
    if tensor.device.type != "cuda":
        return CPU
    # Passes work on streams of their own: what makes the tensor has to be done by then.
    torch.cuda.current_stream(tensor.device).synchronize()
    return torch_device(str(tensor.device))


@cache
def torch_device(name: str) -> TorchDevice:
    """Return the one object for this device, which counts the blocks on it."""
    return TorchDevice(name)


class TorchDevice(Device):
    """A device of torch's, whose few places for blocks all workers share.

    A worker reads its next block (into pinned memory, for CUDA) while it has no place. In a place it copies the
    block, works on it and waits for the results, on the place's own stream: so copies in, work and copies out of
    different blocks overlap, and no buffer is overwritten before it has been copied.
    """

    host_bytes = 8

    def __init__(self, name: str) -> None:
        self.name, self.torch = name, torch.device(name)
        self.is_cuda = self.torch.type == "cuda"
        self.block_bytes = BLOCK_BYTES if self.is_cuda else CPU.block_bytes
        self.max_width = sys.maxsize if self.is_cuda else CPU.max_width
        make_stream: Any = torch.cuda.Stream if self.is_cuda else lambda _: None
        self._places: LifoQueue[Any] = LifoQueue()
        for _ in range(RESIDENT):
            self._places.put(make_stream(self.torch))

    def workers(self, threads: int) -> int:
        """See `Device.workers`."""
        return min(threads, WORKERS)

    def feed(
        self,
        updates: Updates,
        width: int,
        rows: Sequence[int] | None = None,
        mixer: Mixer | None = None,
        dtype: Any = None,
    ) -> Feed:
        """See `Device.feed`."""
        return _TorchFeed(self, updates, width, rows, mixer, dtype)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait for a place for a block, and work on its stream."""
        stream = self._places.get()
        try:
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                yield
                if stream is not None:
                    stream.synchronize()
        finally:
            self._places.put(stream)

    def put(self, block: torch.Tensor) -> torch.Tensor:
        """Return a block on this device; the only way there for blocks from elsewhere."""
        return block.to(self.torch, non_blocking=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Have copies, and processes that a strategy is sent to, look up the one object for the device."""
        return choose_device, (self.name, "a copied strategy")


class _TorchFeed:
    def __init__(
        self,
        device: TorchDevice,
        updates: Updates,
        width: int,
        rows: Sequence[int] | None,
        mixer: Mixer | None,
        dtype: Any,
    ) -> None:
        self.device, self.updates, self.width, self.rows = device, updates, width, rows
        self.dtype = DTYPES[np.dtype(dtype or updates.dtype)]
        self.mixing = None if mixer is None else torch.from_numpy(mixer.matrix).to(device.torch)

    def give(self, start: int, stop: int, work: Callable[[Block], None]) -> None:
        self._give(start, stop, self.rows, work)

    def mixed(self, block: Block) -> Block:
        return (block if self.mixing is None else self.mixing @ block.double()).to(self.dtype)

    def weigh(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        from flwr_robust.kernels import tensors

        rows = None if squares is not None else np.flatnonzero(weights)
        share = weights if rows is None else weights[rows]

        def work(block: Block) -> None:
            tensors.add_weighted_rows(block, share, out)
            if squares is not None:
                tensors.squared_norms(block, squares)

        self._give(start, stop, rows, work)

    def _give(self, start: int, stop: int, rows: Any, work: Callable[[Block], None]) -> None:
        if self.updates.tensor is not None:
            with self.device.place():
                block = self.updates.tensor_block(start, stop, self.device.torch)
                work(block if rows is None else block[rows])
                del block
            return
        staged = shaped(self._staging, self.updates.n if rows is None else len(rows), stop - start)
        self.updates.read(start, stop, staged.numpy(), rows)
        with self.device.place():
            # Nothing here keeps the block: it is gone before the next one may take its place.
            work(self.device.put(staged))

    @cached_property
    def _staging(self) -> torch.Tensor:
        dtype = DTYPES[np.dtype(self.updates.dtype)]
        return torch.empty(self.updates.n * self.width, dtype=dtype, device="cpu", pin_memory=self.device.is_cuda)
