"""Columns in blocks, over threads: each thread takes the same blocks in every run, so sums are reproducible."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from flwr_robust.devices import CPU, Device
from flwr_robust.updates import Updates

# Buffers of all threads together, as a share of the replies' own bytes; but so many bytes a thread are always granted:
# the blocks of small models would be so narrow that their number tells, not their size.
MEMORY_SHARE = 0.04
GRANTED = 2**19
MIN_WIDTH = 64
# Below this many values, starting threads costs more than they save.
SMALL = 2**18


class Worker(Protocol):
    """What a thread does with its blocks; it keeps its own buffers and partial sums."""

    def __call__(self, start: int, stop: int) -> None:
        """Work on columns ``start:stop``."""


T = TypeVar("T")
W = TypeVar("W", bound=Worker)


def default_threads() -> int:
    """Threads to use: ``FLWR_ROBUST_THREADS`` if set, else the cores that this process may run on."""
    asked = os.environ.get("FLWR_ROBUST_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def block_width(n: int, d: int, threads: int, device: Device = CPU) -> int:
    """Columns a block: its size suits the device, and all threads' buffers stay a small share of the input."""
    by_size = device.block_bytes // (8 * max(n, 1))
    by_memory = int(MEMORY_SHARE * d * 4 / (device.host_bytes * threads))
    granted = GRANTED // (device.host_bytes * max(n, 1))
    return max(MIN_WIDTH, min(device.max_width, by_size, max(by_memory, granted)))


def for_blocks(
    updates: Updates,
    make_worker: Callable[[int], W],
    threads: int | None = None,
    columns: tuple[int, int] | None = None,
    device: Device = CPU,
) -> list[W]:
    """Run workers over all columns and return them, in a fixed order.

    Parameters
    ----------
    updates : Updates
        Tells the number of rows and columns.
    make_worker : callable
        Takes the block width, returns one thread's worker.
    threads : int, optional
        By default `default_threads`, or 1 for small inputs.
    columns : (start, stop), optional
        Only these columns.
    device : Device
        Where the workers work: it tells the size of a block.
    """
    first, last = columns or (0, updates.d)
    count = threads or (1 if updates.n * (last - first) < SMALL else default_threads())
    count = device.workers(count)
    width = block_width(updates.n, updates.d, count, device)
    starts = range(first, last, width)
    count = max(1, min(count, len(starts)))

    def run(number: int) -> W:
        worker = make_worker(width)
        for start in starts[number::count]:
            worker(start, min(start + width, last))
        return worker

    if count == 1:
        return [run(0)]
    # Each thread multiplies its own block: BLAS must not start threads of its own below them.
    with _thread_pools().limit(limits=1, user_api="blas"), ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def for_each(function: Callable[[int], T], numbers: Sequence[int], threads: int | None = None) -> list[T]:
    """Call a function with each number, over threads, and return what it returned, in order."""
    count = min(threads or default_threads(), len(numbers))
    if count <= 1:
        return [function(number) for number in numbers]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, numbers))


@lru_cache(maxsize=1)
def _thread_pools() -> Any:
    # Looking the libraries up costs milliseconds: once a process is enough.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
