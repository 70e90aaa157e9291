"""The CPU: blocks of columns over threads, read where they lie, mixed and worked on by compiled loops."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flwr_robust.engine import device as operations
from flwr_robust.engine.device import Block, Device, FloatArray, Source, Sums
from flwr_robust.engine.kernels import blocks, powers

# Buffers of as many threads together, as a share of the replies' own bytes; but this many bytes a thread are always
# granted: the blocks of small models would be so narrow that their number counts, not their size. More threads work
# only while their buffers stay under twice that share: blocks are cut the same for any number of threads.
MEMORY_SHARE, EXPECTED_THREADS = 0.04, 3
GRANTED = 2**19
MIN_WIDTH = 64
# Runs of neighbouring blocks, which threads take in turns; what is found in each is merged in their order.
RUNS = 64
# Below this many values, starting threads costs more than they save.
SMALL = 2**18
# Weighted rows that a sparse mix may add, as a share of those in the full product: beyond, BLAS is faster.
SPARSE = 0.6

T = TypeVar("T")
# What a thread does with its blocks, with buffers of its own: takes columns ``start:stop`` and what its run has found.
Worker = Callable[[int, int, T], None]


class Mixer:
    """Applies one mixing matrix to many blocks, added up in float64.

    The rows of a mixing matrix mostly agree: clipping has one weight a row, a selection a single one, and
    nearest neighbours are nearly the same ones for all. So a common part is added up once, and each row of the
    result adds what differs.

    Parameters
    ----------
    mixing : (m, n) float64 array
        Weights.
    """

    def __init__(self, mixing: NDArray[np.float64]) -> None:
        self.matrix = np.ascontiguousarray(mixing, dtype=np.float64)
        # The middle weight of each column, one that occurs, so that differences to it vanish exactly.
        common = np.sort(self.matrix, axis=0)[len(self.matrix) // 2]
        differences = self.matrix - common
        different, which = np.nonzero(differences)
        self.sparse = len(which) + np.count_nonzero(common) <= SPARSE * self.matrix.size or len(self.matrix) == 1
        self._rows, self._weights = which.astype(np.int64), differences[different, which]
        self._starts = np.searchsorted(different, np.arange(len(self.matrix) + 1)).astype(np.int64)
        used = np.flatnonzero(common).astype(np.int64)
        self._common = (used, common[used])

    def __call__(self, block: FloatArray, out: NDArray[Any]) -> None:
        """Write ``mixing @ block`` (n, columns) into ``out`` (m, columns)."""
        if self.sparse:
            blocks.mix_sparsely(block, self._common, self._starts, self._rows, self._weights, out)
        else:
            out[:] = self.matrix @ block.astype(np.float64, copy=False)


class Mixers:
    """Mixing matrices, applied one after the other: sums of sums are rounded as the rows that they stand for."""

    def __init__(self, mixings: Sequence[NDArray[np.float64]]) -> None:
        self._mixers = [Mixer(mixing) for mixing in mixings]

    @property
    def count(self) -> int:
        """Number of rows of the result."""
        return len(self._mixers[-1].matrix)

    def __call__(self, block: FloatArray, out: NDArray[Any]) -> None:
        """Write the mixed block into ``out`` (m, columns)."""
        for mixer in self._mixers[:-1]:
            mixed = np.empty((len(mixer.matrix), block.shape[1]))
            mixer(block, mixed)
            block = mixed
        self._mixers[-1](block, out)


class Compiled:
    """The CPU as a `Device`."""

    name = "compiled"
    # A block of all rows should stay in a core's share of the last-level cache.
    block_bytes = 2 * 2**20
    max_width = 16384
    host_bytes = 12  # a float32 value and its float64 copy

    def workers(self, threads: int) -> int:
        return threads

    def mixer(self, mixings: Sequence[NDArray[np.float64]]) -> Mixers:
        return Mixers(mixings)

    def feed(self, updates: Source, width: int, mixer: Mixers | None = None, dtype: Any = None) -> _Feed:
        return _Feed(updates, width, mixer, dtype)


CPU: Device = Compiled()


class _Feed:
    def __init__(self, updates: Source, width: int, mixer: Mixers | None, dtype: Any) -> None:
        self.updates, self.width, self.mixer = updates, width, mixer
        self.dtype = np.dtype(dtype or updates.dtype)

    def give(self, start: int, stop: int, work: Callable[[Block], None]) -> None:
        block = shaped(self._read, self.updates.n, stop - start)
        self.updates.read(start, stop, block)
        work(block)

    def mixed(self, block: Block) -> Block:
        if self.mixer is None and self.dtype == block.dtype:
            return block
        out = shaped(self._mixed, self._count, block.shape[1])
        if self.mixer is None:
            out[:] = block
        else:
            self.mixer(block, out)
        return out

    def weigh(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        # The rows are read where they lie.
        self.updates.accumulate(start, stop, weights, out, squares)

    @property
    def _count(self) -> int:
        return self.updates.n if self.mixer is None else self.mixer.count

    # Flat, so that blocks of any width lie in one piece; made when they are needed.
    @cached_property
    def _read(self) -> FloatArray:
        return np.empty(self.updates.n * self.width, self.updates.dtype)

    @cached_property
    def _mixed(self) -> FloatArray:
        return np.empty(self._count * self.width, self.dtype)


def shaped(flat: Any, count: int, columns: int) -> Any:
    """Return the beginning of a flat buffer as a block of this size, in one piece."""
    return flat[: count * columns].reshape(count, columns)


def _largest(block: NDArray[Any], out: Sums) -> None:
    np.maximum(out, np.abs(block).max(axis=1, initial=0.0), out=out)


def _weigh(block: NDArray[Any], weights: Sums, out: Sums) -> None:
    out[:] = weights @ block


def _store(block: NDArray[Any], out: NDArray[Any]) -> None:
    out[:] = block


operations.squared_norms.register(np.ndarray, blocks.squared_norms)
operations.largest.register(np.ndarray, _largest)
operations.add_gram.register(np.ndarray, blocks.add_gram)
operations.add_lp_powers.register(np.ndarray, powers.add_lp_powers)
operations.mean_of_sorted.register(np.ndarray, blocks.mean_of_sorted)
operations.mean_around_median.register(np.ndarray, blocks.mean_around_median)
operations.weigh.register(np.ndarray, _weigh)
operations.store.register(np.ndarray, _store)


_first_use = iter([True])


def is_first_use() -> bool:
    """Whether this is asked for the first time, before any compiled loop was used: the first call loads or compiles."""
    return next(_first_use, False) and not _loaded()


def _loaded() -> bool:
    return bool(blocks.add_gram.signatures or blocks.sort_rows.signatures)


def default_threads() -> int:
    """Threads to use: ``FLWR_ROBUST_THREADS`` if set, else the cores that this process may run on."""
    asked = os.environ.get("FLWR_ROBUST_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def block_width(n: int, d: int, device: Device = CPU) -> int:
    """Columns of a block: its size suits the device, and the threads' buffers stay a small share of the input."""
    by_size = device.block_bytes // (8 * max(n, 1))
    by_memory = int(MEMORY_SHARE * d * 4 / (device.host_bytes * EXPECTED_THREADS))
    granted = GRANTED // (device.host_bytes * max(n, 1))
    return max(MIN_WIDTH, min(device.max_width, by_size, max(by_memory, granted)))


def num_threads(asked: int | None, n: int, d: int, width: int, device: Device) -> int:
    """Return how many threads are of use: fewer for small inputs, or where their buffers would be too large."""
    count = asked or (1 if n * d < SMALL else default_threads())
    each, allowed = device.host_bytes * n * width, 2 * MEMORY_SHARE * 4 * n * d
    return device.workers(count if each <= GRANTED else max(1, min(count, int(allowed / each))))


def for_blocks(
    updates: Source,
    make_worker: Callable[[int], Worker[T]],
    make: Callable[[int], T],
    merge: Callable[[T, T], None],
    threads: int | None = None,
    columns: tuple[int, int] | None = None,
    device: Device = CPU,
) -> T:
    """Run workers over all columns and return what they found: the same to the last bit for any number of threads.

    Parameters
    ----------
    updates : Source
        Has the number of rows and columns.
    make_worker : callable
        Takes the block width, returns one thread's worker.
    make : callable
        Takes the block width, returns what a run of blocks starts with.
    merge : callable
        Adds what a run has found to what runs before it have.
    threads : int, optional
        At most; by default `default_threads`, or 1 for small inputs.
    columns : (start, stop), optional
        Only these columns.
    device : Device
        Where the workers work: it decides the size of a block.
    """
    first, last = columns or (0, updates.d)
    width = block_width(updates.n, updates.d, device)
    length = width * max(1, -(-(last - first) // (width * RUNS)))
    starts = range(first, last, length)
    total, waiting, lock, numbers = make(width), dict[int, T](), Lock(), iter(range(len(starts)))
    merged = 0

    def work(_: int) -> None:
        nonlocal merged
        worker = make_worker(width)
        # Iterators hand out each number once, whichever thread asks.
        for number in numbers:
            found, stop = make(width), min(starts[number] + length, last)
            for start in range(starts[number], stop, width):
                worker(start, min(start + width, stop), found)
            with lock:
                waiting[number] = found
                while merged in waiting:
                    merge(total, waiting.pop(merged))
                    merged += 1

    count = min(num_threads(threads, updates.n, last - first, width, device), len(starts))
    with one_blas_thread():
        if count <= 1:
            work(0)
        else:
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(work, range(count)))
    return total


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep BLAS to one thread: threads of ours are enough, and how it splits its work changes the last bits."""
    limited: AbstractContextManager[Any] = _thread_pools().limit(limits=1, user_api="blas")
    return limited


def for_each(function: Callable[[int], T], numbers: Sequence[int], threads: int | None = None) -> list[T]:
    """Call a function with each number, over threads, and return what it returned, in order."""
    count = min(threads or default_threads(), len(numbers))
    if count <= 1:
        return [function(number) for number in numbers]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, numbers))


@lru_cache(maxsize=1)
def _thread_pools() -> ThreadpoolController:
    # Looking the libraries up costs milliseconds: once a process is enough.
    return ThreadpoolController()
