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

from simulations.bench.cases import make_rule
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
    """Seconds of a chain against n or d.

    Attributes
    ----------
    variable : str
        ``n`` or ``d``; the other one is `fixed`.
    theory : str
        What the cost should be proportional to, among `THEORY`.
    ended : str or None
        Why it was not followed to the end.
    """

    chain: str
    theory: str
    variable: str
    fixed: int
    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ended: str | None = None

    def cost(self, size: int) -> float:
        """Return what the seconds should be proportional to."""
        n, d = (size, self.fixed) if self.variable == "n" else (self.fixed, size)
        cost: float = THEORY[self.theory](n, d)
        return cost

    def expected(self, size: int) -> float:
        """Return the seconds that theory and the last measured size let expect; 0 before the first."""
        return self.seconds[-1] * self.cost(size) / self.cost(self.sizes[-1]) if self.sizes else 0.0


class GrowthBench:
    """Measures growth on matrices whose rows overlap in memory, so that large ones fit.

    Parameters
    ----------
    repeats : int
        Repetitions, of which the median counts.
    largest_n, largest_d : int
        Where to stop.
    limit : float
        Seconds that a call may be expected to take; larger sizes are left out.
    """

    def __init__(self, repeats: int, largest_n: int, largest_d: int, limit: float) -> None:
        self.repeats, self.limit = repeats, limit
        fixed_d = min(FIXED_D, largest_d)
        self.nodes = [n for n in NODES if n <= max(largest_n, NODES[0])]
        self.parameters = [d for d in PARAMETERS if d <= max(largest_d, PARAMETERS[0])]
        self.results = [Growth(name, theory, "n", fixed_d) for name, theory in CHAINS.items()]
        self.results += [Growth(name, theory, "d", FIXED_N) for name, theory in CHAINS.items()]

    @property
    def steps(self) -> int:
        """How often `run` yields."""
        return len(self.nodes) + len(self.parameters)

    def run(self) -> Iterator[str]:
        """Measure, and yield what has just been done."""
        for variable, sizes in (("n", self.nodes), ("d", self.parameters)):
            for size in sizes:
                results = [result for result in self.results if result.variable == variable and result.ended is None]
                if results:
                    self._measure(results, size)
                yield f"growth with {variable}: {size:,}"

    def _measure(self, results: list[Growth], size: int) -> None:
        """Measure all chains at one size, in turns."""
        fixed = results[0].fixed
        n, d = (size, fixed) if results[0].variable == "n" else (fixed, size)
        needed, free = 4 * (d + n * STRIDE) + EXTRA * d, free_bytes()
        if free is not None and needed > free:
            for result in results:
                result.ended = f"{size:,} may need {shown(needed)} of memory, and {shown(free)} are free."
            return
        matrix, layers = overlapping_rows(n, d), layers_for(d) if d >= LEAST_LAYERED else None
        tried: list[tuple[Growth, Any, list[float]]] = []
        for result in results:
            expected = result.expected(size)
            if expected > self.limit:
                result.ended = f"{size:,} would take {expected:.0f} s; more than {self.limit:g} s are not spent."
            else:
                tried.append((result, make_rule(result.chain, n // 5), []))
        for repeat in range(self.repeats + 1):
            for _, rule, seconds in tried:
                spent = timed(partial(rule, matrix, layers))[0]
                # The first call warms up; a long one needs no warming up, nor a second look.
                if repeat or spent > self.limit / 10:
                    seconds.append(spent)
            tried_again = [entry for entry in tried if not entry[2] or entry[2][0] <= self.limit / 10]
            for result, _, seconds in (entry for entry in tried if entry not in tried_again):
                _keep(result, size, seconds)
            tried = tried_again
        for result, _, seconds in tried:
            _keep(result, size, seconds)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the results as plain data."""
        return [asdict(result) for result in self.results]


def _keep(result: Growth, size: int, seconds: list[float]) -> None:
    result.sizes.append(size)
    result.seconds.append(median(seconds))


def overlapping_rows(n: int, d: int, seed: int = 0) -> Matrix:
    """Return an (n, d) read-only matrix whose rows are windows of one vector of d + n * `STRIDE` values."""
    vector = np.random.default_rng(seed).standard_normal(d + (n - 1) * STRIDE, dtype=np.float32)
    return as_strided(vector, (n, d), (4 * STRIDE, 4), writeable=False)
