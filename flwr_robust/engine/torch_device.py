"""Devices of torch's: blocks stream to them, a few at a time, and are worked on as tensors.

Sums come back to arrays of the CPU at once, on the calling thread's stream: other blocks do not wait for that.
Blocks are left as they are, since they may be views of what a user gave.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, cached_property
from queue import LifoQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.cpu import CPU, shaped
from flwr_robust.engine.device import Block, FloatArray, Source, Sums
from flwr_robust.engine.updates import Layers, Updates, make_layers

# Blocks on a device at a time, of all passes of the process: one comes, one is worked on, one's results go.
RESIDENT = 3
# Threads that read: more than there are places, so that a block is ready whenever one becomes free.
WORKERS = 2 * RESIDENT
# Of a block as float64 on a GPU: large enough to hide what each copy and each call costs beside the work itself.
BLOCK_BYTES = 32 * 2**20
DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def find_device(name: str, given: str) -> TorchDevice:
    """Return the device of this name; `given` begins the sentence of an error.

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


@cache
def torch_device(name: str) -> TorchDevice:
    """Return the one object for this device, which counts the blocks on it."""
    return TorchDevice(name)


class TorchDevice:
    """A `Device` of torch's, whose few places for blocks all workers share.

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
        return min(threads, WORKERS)

    def mixer(self, mixings: Sequence[NDArray[np.float64]]) -> list[torch.Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(m, dtype=np.float64)).to(self.torch) for m in mixings]

    def feed(self, updates: Source, width: int, mixer: list[torch.Tensor] | None = None, dtype: Any = None) -> _Feed:
        return _Feed(self, updates, width, mixer, dtype)

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
        return find_device, (self.name, f"a copied strategy was given device = {self.name!r}")


class _Feed:
    def __init__(
        self, device: TorchDevice, updates: Source, width: int, mixer: list[torch.Tensor] | None, dtype: Any
    ) -> None:
        self.device, self.updates, self.width, self.mixer = device, updates, width, mixer
        self.dtype = DTYPES[np.dtype(dtype or updates.dtype)]

    def give(self, start: int, stop: int, work: Callable[[Block], None]) -> None:
        self._give(start, stop, None, work)

    def mixed(self, block: Block) -> Block:
        for mixing in self.mixer or ():
            block = mixing @ block.double()
        return block.to(self.dtype)

    def weigh(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        which = None if squares is not None else np.flatnonzero(weights)
        share = torch.from_numpy(weights if which is None else weights[which])

        def work(block: Block) -> None:
            out[:] += _array(share.to(block.device) @ block.double())
            if squares is not None:
                squared_norms(block, squares)

        self._give(start, stop, which, work)

    def _give(self, start: int, stop: int, which: Any, work: Callable[[Block], None]) -> None:
        if isinstance(self.updates, TensorUpdates):
            with self.device.place():
                block = self.updates.block(start, stop, self.device.torch)
                work(block if which is None else block[which])
                del block
            return
        staged = shaped(self._staging, self.updates.n if which is None else len(which), stop - start)
        self.updates.read(start, stop, staged.numpy(), which)
        with self.device.place():
            # Nothing here keeps the block: it is gone before the next one may take its place.
            work(self.device.put(staged))

    @cached_property
    def _staging(self) -> torch.Tensor:
        dtype = DTYPES[np.dtype(self.updates.dtype)]
        return torch.empty(self.updates.n * self.width, dtype=dtype, device="cpu", pin_memory=self.device.is_cuda)


def updates_of_tensor(tensor: torch.Tensor, layers: Layers | None) -> Updates:
    """Return a view of an (n, d) tensor: of NumPy's, where it lies in the CPU's memory in a dtype that NumPy has."""
    if tensor.device.type == "cpu" and tensor.dtype in (torch.float16, torch.float32, torch.float64):
        matrix: Any = tensor.numpy()
        return Updates.of_rows(matrix, layers)
    return TensorUpdates(tensor, layers)


class TensorUpdates(Updates):
    """Updates that are an (n, d) tensor: on CUDA passes work there, other devices send their blocks to torch's CPU."""

    def __init__(self, tensor: torch.Tensor, layers: Layers | None = None, below: Sequence[FloatArray] = ()) -> None:
        wide = np.dtype(np.float64 if tensor.dtype == torch.float64 else np.float32)
        super().__init__([], len(tensor) + len(below), make_layers(layers, tensor.shape[1]), wide)
        self.d = tensor.shape[1]
        self.tensor, self.below = tensor, below
        self.device = self.home = _device_of(tensor)

    def stacked(self, vectors: Sequence[FloatArray]) -> TensorUpdates:
        made = TensorUpdates(self.tensor, None, [*self.below, *vectors])
        made.layers, made.device = self.layers, self.device
        return made

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        block = self.block(start, stop, self.tensor.device)
        out[:, : stop - start] = _array(block if rows is None else block[list(rows)])

    def accumulate(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None = None) -> None:
        block = self.block(start, stop, torch.device("cpu"))
        out += weights @ block.double().numpy()
        if squares is not None:
            squared_norms(block, squares)

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        chosen = torch.from_numpy(columns).to(self.tensor.device)
        taken: FloatArray = _array(self.tensor[:, chosen].to(DTYPES[self.dtype]))
        return np.vstack([taken, *(vector[columns] for vector in self.below)])

    def block(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """Return columns ``start:stop`` on this device: a view if they lie there and nothing is below them."""
        block = self.tensor[:, start:stop].to(device, DTYPES[self.dtype])
        below = [torch.from_numpy(vector[start:stop]).to(block) for vector in self.below]
        return torch.vstack([block, *below]) if below else block


def _device_of(tensor: torch.Tensor) -> TorchDevice:
    if tensor.device.type != "cuda":
        return torch_device("cpu")
    # Passes work on streams of their own: what makes the tensor has to be done by then.
    torch.cuda.current_stream(tensor.device).synchronize()
    return torch_device(str(tensor.device))


# ---------------------------------------------------------------- what passes do with blocks


@operations.squared_norms.register
def squared_norms(block: torch.Tensor, out: Sums) -> None:
    """Add each row's sum of squares to ``out``."""
    out += _array(block.double().square().sum(dim=1))


@operations.largest.register
def _(block: torch.Tensor, out: Sums) -> None:
    np.maximum(out, _array(block.abs().amax(dim=1)), out=out)


@operations.add_gram.register
def _(block: torch.Tensor, gram: Sums) -> None:
    wide = block.double()
    gram[: len(wide), : len(wide)] += _array(wide @ wide.T)


@operations.add_lp_powers.register
def _(block: torch.Tensor, p: float, scales: Sums, sums: Sums) -> None:
    wide = block.double()
    for i in range(len(wide) - 1):
        differences = (wide[i + 1 :] - wide[i]).abs()
        before = torch.from_numpy(scales[i, i + 1 :]).to(block.device)
        scale = torch.maximum(before, differences.amax(dim=1))
        if not np.isinf(p):
            safe = torch.where(scale > 0, scale, 1.0)
            sums[i, i + 1 :] *= _array((before / safe) ** p)
            sums[i, i + 1 :] += _array(((differences / safe[:, None]) ** p).sum(dim=1))
        # Last, because on the CPU the scales before are a view of these.
        scales[i, i + 1 :] = _array(scale)


@operations.mean_of_sorted.register
def _(block: torch.Tensor, first: int, last: int, out: Sums) -> None:
    rows = block if last - first == len(block) else block.sort(dim=0).values[first:last]
    # Divided before they are added: a sum of values near the largest float64 would overflow.
    out[:] = _array((rows.double() / (last - first)).sum(dim=0))


@operations.mean_around_median.register
def _(block: torch.Tensor, keep: int, out: Sums) -> None:
    rows = len(block)
    wide = block.sort(dim=0).values.double()
    median = wide[(rows - 1) // 2] / 2 + wide[rows // 2] / 2
    counts = torch.ones_like(wide, dtype=torch.bool)
    if keep < rows:
        # Whether the first of `keep` values side by side is given up for the next one behind them.
        given_up = wide[keep:] - median < median - wide[:-keep]
        counts[:-keep] &= ~given_up
        counts[keep:] &= given_up
    out[:] = _array(torch.where(counts, wide / keep, 0.0).sum(dim=0))


@operations.weigh.register
def _(block: torch.Tensor, weights: Sums, out: Sums) -> None:
    out[:] = _array(torch.from_numpy(weights).to(block.device) @ block.double())


@operations.store.register
def _(block: torch.Tensor, out: NDArray[Any]) -> None:
    out[:] = _array(block)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
