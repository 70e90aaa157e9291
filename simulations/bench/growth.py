"""How cost grows with the number of nodes and of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from math import log2
from statistics import median
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from simulations.bench.cases import Thunk, make_rule
from simulations.bench.measure import timed
from simulations.bench.memory import free_bytes, shown
from simulations.bench.messages import LEAST_LAYERED, Matrix, layers_for

NODES = (17, 24, 34, 50, 71, 100, 141, 200, 282, 400, 564, 800, 1000)
PARAMETERS = tuple(round(10 ** (power / 2)) for power in range(8, 17))
FIXED_N, FIXED_D = 17, 100_000
# Rows begin this far apart in one long vector: farther than a block of columns is wide, so that a block's rows do
# not share memory, and no power of two, so that they do not fall on the same lines of a cache.
STRIDE = 16_411
# Bytes a column that a rule may hold beside the matrix: a result, a row and their float64 copies.
EXTRA = 40
# Of the free memory: the rest is for what others take meanwhile.
FREE_SHARE = 0.8
# Seconds from which on one call is enough.
LONG = 1.0

LINEAR, GRAM, SORTING = "n d", "n² d", "n log² n d"
THEORY = {
    LINEAR: lambda n, d: n * d,
    GRAM: lambda n, d: n**2 * d,
    SORTING: lambda n, d: n * log2(n) ** 2 * d,
}
CHAINS = {
    "Mean": LINEAR,
    "LASA": LINEAR,
    "Median": SORTING,
    "Krum": GRAM,
    "ARC+NNM+GeometricMedian": GRAM,
    "ARC+NNM+TrimmedMean": GRAM,
}


@dataclass
class Growth:
    """Seconds of a chain against n or d."""

    chain: str
    theory: str
    """What the cost should be proportional to, among `THEORY`."""
    variable: str
    """``n`` or ``d``; the other one is `fixed`."""
    fixed: int
    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ended: str | None = None
    """Why it was not followed to the end."""

    def shape(self, size: int) -> tuple[int, int]:
        """Return n and d at a size."""
        return (size, self.fixed) if self.variable == "n" else (self.fixed, size)

    def cost(self, size: int) -> float:
        """Return what the seconds should be proportional to."""
        cost: float = THEORY[self.theory](*self.shape(size))
        return cost

    def expected(self, size: int) -> float:
        """Return the seconds that theory and the last measured size let expect; 0 before the first."""
        return self.seconds[-1] * self.cost(size) / self.cost(self.sizes[-1]) if self.sizes else 0.0


class GrowthBench:
    """Measures growth on matrices whose rows overlap in memory, so that large ones fit.

    Sizes up to `largest_n` and `largest_d` are measured, those left out for which a call may be expected to take
    more than `limit` seconds; of the repetitions the median counts.
    """

    def __init__(self, repeats: int, largest_n: int, largest_d: int, limit: float) -> None:
        self.repeats, self.limit = repeats, limit
        fixed_d = min(FIXED_D, largest_d)
        self.sizes = {
            "n": [n for n in NODES if n <= max(largest_n, NODES[0])],
            "d": [d for d in PARAMETERS if d <= max(largest_d, PARAMETERS[0])],
        }
        self.results = [Growth(name, theory, "n", fixed_d) for name, theory in CHAINS.items()]
        self.results += [Growth(name, theory, "d", FIXED_N) for name, theory in CHAINS.items()]

    @property
    def steps(self) -> int:
        """How often `run` yields at the most."""
        return len(CHAINS) * sum(map(len, self.sizes.values()))

    def run(self) -> Iterator[str]:
        """Measure point by point, and yield what has just been done."""
        for variable, sizes in self.sizes.items():
            for size in sizes:
                results = [result for result in self.results if result.variable == variable and result.ended is None]
                for result in self._measured(results, size) if results else ():
                    yield f"{result.chain}, {variable} = {size:,}"

    def _measured(self, results: list[Growth], size: int) -> Iterator[Growth]:
        """Measure these chains at one size, and yield each when it is done."""
        n, d = results[0].shape(size)
        needed, free = 4 * (d + n * STRIDE) + EXTRA * d, free_bytes()
        if free is not None and needed > FREE_SHARE * free:
            for result in results:
                result.ended = f"{size:,} may need {shown(needed)} of memory, and {shown(free)} are free."
            return
        matrix, layers = overlapping_rows(n, d), layers_for(d) if d >= LEAST_LAYERED else None
        for result in results:
            expected = result.expected(size)
            if expected > self.limit:
                result.ended = f"{size:,} would take {expected:.0f} s; more than {self.limit:g} s are not spent."
                continue
            seconds = self._seconds(partial(make_rule(result.chain, n // 5), matrix, layers))
            result.sizes.append(size)
            result.seconds.append(seconds)
            yield result

    def _seconds(self, work: Thunk) -> float:
        """Return the median seconds of a call; a long one needs no warming up, nor a second look."""
        first, _ = timed(work)
        return first if first > LONG else median(timed(work)[0] for _ in range(self.repeats))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the results as plain data."""
        return [asdict(result) for result in self.results]


def overlapping_rows(n: int, d: int, seed: int = 0) -> Matrix:
    """Return an (n, d) read-only matrix whose rows are windows of one vector of d + n * `STRIDE` values."""
    vector = np.random.default_rng(seed).standard_normal(d + (n - 1) * STRIDE, dtype=np.float32)
    return as_strided(vector, (n, d), (4 * STRIDE, 4), writeable=False)
