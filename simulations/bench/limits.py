"""The machine's own limits, measured on the same sizes: reading memory, multiplying, comparing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from flwr_robust.engine.kernels import blocks as kernels
from flwr_robust.rules import CoordinateRule, Needs, Rule
from simulations.bench.messages import Matrix, Problem

# Values that are copied at a time into a buffer that stays in a core's cache.
CHUNK = 2**17
# Values of a block that multiplications work on, which stays in the cache too.
BLOCK = 2**18
# Multiplications and additions after which a rate is known well enough.
ENOUGH = 4e9
LANE = 2**14
# Reads of all replies that a rule cannot do without, beyond measuring and combining: LASA has to know what lies above
# each row's sparsification threshold before it knows which rows to average.
FURTHER_READS = {"lasa": 1}
# Rules whose own passes stay on the CPU, whatever device the others run on.
ON_CPU = ("lasa",)


class Limits:
    """What this machine needs at the least for the steps that aggregation is made of.

    `measurements` are functions that measure the seconds of ``read`` (all replies once, and write one model),
    ``gram`` (float32 Gram matrix of n rows), ``mix`` (an n x n matrix times n rows) and ``exchange`` (ordering two
    rows of d values, the step that sorting networks are made of); and ``copy`` (all replies to the device once),
    where there is a device.
    """

    def __init__(self, problem: Problem, threads: int, device: str | None = None) -> None:
        self.n, self.d, self.threads = problem.n, problem.d, threads
        flat = [view for views in problem.views() for view in views]
        self._chunks = [view[at : at + CHUNK] for view in flat for at in range(0, view.size, CHUNK)]
        generator = np.random.default_rng(1)
        width = max(64, min(LANE, BLOCK // self.n))
        self._block = generator.standard_normal((self.n, width), dtype=np.float32)
        self._mixing = generator.standard_normal((self.n, self.n), dtype=np.float32)
        self.measurements: dict[str, Callable[[], float]] = {
            "read": self._read,
            "gram": lambda: self._multiply(self._block, self._block.T),
            "mix": lambda: self._multiply(self._mixing, self._block),
            "exchange": self._exchange,
        }
        self.device = device
        if device is not None:
            from simulations.bench.device import Copies

            self.measurements["copy"] = Copies(device, problem.bytes).seconds

    def _read(self) -> float:
        model = np.empty(self.d, np.float32)

        def copy(number: int) -> None:
            buffer = np.empty(CHUNK, np.float32)
            for chunk in self._chunks[number :: self.threads]:
                np.copyto(buffer[: chunk.size], chunk)
            for start in range(number * CHUNK, self.d, self.threads * CHUNK):
                part = model[start : start + CHUNK]
                np.copyto(part, buffer[: part.size])

        return self._seconds(copy)

    def _multiply(self, left: Matrix, right: Matrix) -> float:
        """Seconds for all columns, from as many blocks as a good measurement takes."""
        width = self._block.shape[1]
        blocks = -(-self.d // width)
        each = max(1, min(-(-blocks // self.threads), int(ENOUGH / (2 * self.n**2 * width * self.threads))))

        def multiply(_: int) -> None:
            out = np.empty((left.shape[0], right.shape[1]), np.float32)
            for _ in range(each):
                np.matmul(left, right, out=out)

        share: float = self.d / (each * self.threads * width)
        return self._seconds(multiply) * share

    def _exchange(self) -> float:
        each = 1000
        again = np.tile([[0, 1]], (each, 1))

        def exchange(number: int) -> None:
            # The two rows alone stay in the first-level cache. NumPy's minimum looks for NaN too, and is slower.
            kernels.sort_rows(np.random.default_rng(number).standard_normal((2, LANE), dtype=np.float32), again)

        # Loaded, or compiled, before it is timed.
        kernels.sort_rows(np.zeros((2, 1), np.float32), again)

        return self._seconds(exchange) * self.d / (each * self.threads * LANE)

    def _seconds(self, work: Callable[[int], Any]) -> float:
        """Time `work(number)` in each of the threads, none of which lets BLAS start more."""
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda _: None, range(self.threads)))
            start = perf_counter()
            list(pool.map(work, range(self.threads)))
            return perf_counter() - start


def rates(seconds: dict[str, float], n: int, d: int) -> dict[str, float]:
    """Return the limits as rates: bytes a second that are read and written, multiplications and additions a second."""
    found = {
        "bytes_per_second": (n + 1) * d * 4 / seconds["read"],
        "gram_flops": 2 * n**2 * d / seconds["gram"],
        "mix_flops": 2 * n**2 * d / seconds["mix"],
        "exchanges_per_second": d / seconds["exchange"],
    }
    return found | ({"copied_bytes_per_second": n * d * 4 / seconds["copy"]} if "copy" in seconds else {})


def least_seconds(rule: Rule, n: int, seconds: dict[str, float]) -> float:
    """Return the time below which a rule or chain cannot come on this machine, as it reads and computes.

    A pass takes as long as reading, or as what is computed on the way, whichever is longer; on a device, which
    ``copy`` is there for, as long as reading or copying.
    """
    needs = max((stage.needs for stage in (*rule.stages, rule.last)), default=Needs.NOTHING)
    read, copy = seconds["read"], seconds.get("copy")
    total = FURTHER_READS.get(rule.last.name, 0) * read
    if needs is not Needs.NOTHING:
        computing = seconds["gram"] if needs is Needs.DISTANCES else 0.0
        total += max(read, computing if copy is None else copy)
    stays = copy is None or rule.last.name in ON_CPU
    return total + max(read, _last_pass(rule, n, seconds) if stays else copy or 0.0)


def _last_pass(rule: Rule, n: int, seconds: dict[str, float]) -> float:
    """Return the time for computing in the last pass: weighted sums are free, mixing and sorting are not."""
    rows, mixed = n, False
    for stage in rule.stages:
        rows, mixed = stage.rows_after(rows, stage.resolve_f(n)), mixed or stage.mixes
    sorts = isinstance(rule.last, CoordinateRule) or rule.last.name == "bulyan"
    if not sorts:
        return 0.0
    if rule.last.name == "bulyan":
        rows -= 2 * rule.last.resolve_f(n)
    mixing = seconds["mix"] * rows / n if mixed else 0.0
    return mixing + comparators(rows) * seconds["exchange"]


@lru_cache(maxsize=16)
def comparators(n: int) -> int:
    """Return how many pairs Batcher's odd-even merge sort orders among n values: about n log^2 n / 4."""
    count, p = 0, 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                count += sum((i + j) // (2 * p) == (i + j + k) // (2 * p) for i in range(min(k, n - j - k)))
            k //= 2
        p *= 2
    return count
