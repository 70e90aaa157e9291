"""Learning-rate schedules: a factor for each step of a node or for each round, counted from 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

Factor = Callable[[int], float]

ALLOWED = (
    '"constant", "inverse:50" (divide by 1 + floor(step / 50)), "steps:1500:0.1" '
    '(multiply by 0.1 after step 1500; further pairs may follow, as in "steps:1500:0.1:1800:0.5") or '
    '"exponential:0.99" (multiply by 0.99 after each round)'
)


@dataclass(frozen=True)
class Schedule:
    """A factor of the learning rate."""

    factor: Factor
    """Maps a step of a node, or a round, counted from 1, to the factor."""
    by_round: bool = False
    """Whether rounds are counted instead of a node's steps."""

    def __call__(self, count: int) -> float:
        """Return the factor of a step or round, counted from 1."""
        return self.factor(count)

    def of_round(self, server_round: int, steps: int) -> list[float]:
        """Return the factors of a node's steps in a round, of which there are the same number in each."""
        if self.by_round:
            return [self.factor(server_round)] * steps
        first = (server_round - 1) * steps + 1
        return [self.factor(first + step) for step in range(steps)]


@lru_cache(maxsize=8)
def parse_schedule(spec: str) -> Schedule:
    """Read a schedule.

    Parameters
    ----------
    spec : str
        ``constant``, ``inverse:PERIOD``, ``steps:STEP:FACTOR[:STEP:FACTOR...]``, which count steps, or
        ``exponential:FACTOR``, which counts rounds.

    Raises
    ------
    ValueError
        If the text is none of these.

    Examples
    --------
    >>> factor = parse_schedule("inverse:50")
    >>> factor(49), factor(50), factor(100)
    (1.0, 0.5, 0.3333333333333333)
    """
    kind, *fields = spec.strip().split(":")
    try:
        if kind == "constant" and not fields:
            return Schedule(lambda step: 1.0)
        if kind == "inverse" and len(fields) == 1:
            return Schedule(_inverse(int(fields[0])))
        if kind == "steps" and fields and len(fields) % 2 == 0:
            return Schedule(_steps([int(text) for text in fields[::2]], [float(text) for text in fields[1::2]]))
        if kind == "exponential" and len(fields) == 1:
            return Schedule(_exponential(float(fields[0])), by_round=True)
        raise ValueError("unknown form")
    except ValueError as error:
        raise ValueError(f"{spec!r} is no schedule ({error}): give {ALLOWED}.") from error


def _inverse(period: int) -> Factor:
    if period < 1:
        raise ValueError("the period must be at least 1")
    return lambda step: 1.0 / (1 + step // period)


def _exponential(base: float) -> Factor:
    if not 0 < base <= 1:
        raise ValueError("the factor must be in (0, 1]")
    return lambda server_round: float(base ** (server_round - 1))


def _steps(milestones: list[int], factors: list[float]) -> Factor:
    if milestones[0] < 1 or any(later <= earlier for earlier, later in pairwise(milestones)):
        raise ValueError("steps must be positive and increase")
    if any(not 0 < factor < float("inf") for factor in factors):
        raise ValueError("factors must be positive")

    def factor_at(step: int) -> float:
        product = 1.0
        for milestone, factor in zip(milestones, factors, strict=True):
            if step > milestone:
                product *= factor
        return product

    return factor_at
