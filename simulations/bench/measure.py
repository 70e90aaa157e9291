"""Time the cases: first each by itself, then all of them in turns, so that drift of the machine hits all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.bench.cases import BYZFL, MATRIX, STRATEGY, Case, SkippedError, Thunk
from simulations.bench.limits import Limits
from simulations.bench.memory import free_bytes, peak_extra_bytes, shown
from simulations.bench.messages import Problem
from simulations.bench.split import PARTS, split_time

SPLITS = 3
# Seconds before each timed call: threads of the call before it, of BLAS and OpenMP, spin for a while.
PAUSE = 0.02
# Models that any case may hold beside its copies of the replies: the result, and float64 versions of it.
MODELS = 8


@dataclass
class Result:
    """What was found out about a case."""

    case: Case
    first: float | None = None
    """Seconds of the first call, which may include compiling."""
    seconds: list[float] = field(default_factory=list)
    """Of the repetitions that count."""
    peak_bytes: int | None = None
    """Most extra memory; None where it was not measured."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of each part; empty but for strategies of ours."""
    difference: float | None = None
    """Largest difference of a strategy's result to its rule's on the matrix, relative to the latter's largest value."""
    skipped: str | None = None
    """Why there are no seconds."""
    once: bool = False
    """Whether the first call is the only one, because it took so long."""

    @property
    def median(self) -> float | None:
        """Median seconds so far."""
        return median(self.seconds) if self.seconds else None


class Bench:
    """Measures cases on one problem.

    Parameters
    ----------
    problem, cases : Problem, sequence of Case
        What is measured, in the order of the table.
    threads : int
        Of the limits; the cases' own are set elsewhere.
    repeats : int
        Repetitions that count.
    peer_limit : float
        Seconds after which another library's case is not repeated.
    device : str, optional
        Where the strategies among the cases aggregate through torch, if they do.
    """

    def __init__(
        self,
        problem: Problem,
        cases: Sequence[Case],
        threads: int,
        repeats: int,
        peer_limit: float,
        device: str | None = None,
    ) -> None:
        self.problem, self.repeats, self.peer_limit = problem, repeats, peer_limit
        self.results = [Result(case) for case in cases]
        self.limits = Limits(problem, threads, device)
        self.limit_seconds: dict[str, list[float]] = {name: [] for name in self.limits.measurements}
        self._ready: dict[int, Callable[[], Thunk]] = {}

    @property
    def steps(self) -> int:
        """How often `run` yields at the most."""
        return len(self.results) + self.repeats * (len(self.results) + 1)

    def run(self) -> Iterator[str]:
        """Measure, and yield what has just been done."""
        try:
            yield from self._run()
        finally:
            gc.unfreeze()

    def _run(self) -> Iterator[str]:
        collect_garbage()
        updates: dict[str, NDArray[np.float64]] = {}
        for number, result in enumerate(self.results):
            self._begin(number, result, updates)
            yield f"{result.case.group} {result.case.name}: first call"
        for repeat in range(self.repeats):
            collect_garbage()
            turn = f"repetition {repeat + 1} of {self.repeats}"
            for name, measure in self.limits.measurements.items():
                self.limit_seconds[name].append(measure())
            yield f"limits of the machine: {turn}"
            for number, result in enumerate(self.results):
                if number in self._ready and not result.once:
                    result.seconds.append(timed(self._ready[number]())[0])
                yield f"{result.case.group} {result.case.name}: {turn}"

    def _begin(self, number: int, result: Result, updates: dict[str, NDArray[np.float64]]) -> None:
        """First call, memory and split of a case; `updates` keeps a strategy's result for its matrix case."""
        case = result.case
        try:
            self._require_memory(case)
            ready = case.start(self.problem)
            collect_garbage()
            result.first, outcome = timed(ready())
            self._compare(result, outcome, updates)
            if case.is_peer and result.first > self.peer_limit:
                result.once, result.seconds = True, [result.first]
                return
            # tracemalloc does not see torch's memory.
            result.peak_bytes = None if case.group == BYZFL else peak_extra_bytes(ready())
            if case.group == STRATEGY:
                splits = [split_time(ready()) for _ in range(min(SPLITS, self.repeats))]
                result.parts = {part: median(split[part] for split in splits) for part in PARTS}
            self._ready[number] = ready
        except SkippedError as error:
            result.skipped = str(error)
        except Exception as error:
            # What another library fails at is a fact about it; an error of our own must be seen.
            if not case.is_peer:
                raise
            result.skipped = f"failed: {type(error).__name__}: {str(error)[:200]}"

    def _require_memory(self, case: Case) -> None:
        free, problem = free_bytes(), self.problem
        needed = case.copies(problem.n, problem.f) * problem.bytes + MODELS * 4 * problem.d
        if case.group in (MATRIX, BYZFL) and "matrix" not in vars(problem):
            needed += problem.bytes
        if free is not None and needed > free:
            raise SkippedError(f"may need {shown(needed)} of memory, and {shown(free)} are free.")

    def _compare(self, result: Result, outcome: Any, updates: dict[str, NDArray[np.float64]]) -> None:
        """Compare the matrix case's result to the strategy's, which came before it."""
        case = result.case
        if case.group == STRATEGY:
            updates.clear()
            updates[case.name] = self.problem.update(outcome)
        elif case.group == MATRIX and case.name in updates:
            update = updates.pop(case.name)
            size = float(np.abs(outcome).max(initial=0.0))
            found = float(np.abs(update - outcome).max(initial=0.0)) / (size or 1.0)
            strategy = next(r for r in self.results if r.case.group == STRATEGY and r.case.name == case.name)
            strategy.difference = result.difference = found


def collect_garbage() -> None:
    """Collect garbage, and set what is left aside.

    Some of Flower's strategies collect garbage for each reply: they are not to pay for the objects of the bench
    and of the packages that it has loaded.
    """
    gc.collect()
    gc.freeze()


def timed(work: Thunk) -> tuple[float, Any]:
    """Return the seconds of a call and its result; no garbage is collected meanwhile, unless by the call itself."""
    sleep(PAUSE)
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = perf_counter()
        outcome = work()
        return perf_counter() - start, outcome
    finally:
        if enabled:
            gc.enable()
