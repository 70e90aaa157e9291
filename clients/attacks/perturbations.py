"""Attacks that move the honest mean as far as a bound on distances allows: ``b = mean + gamma p`` (LASA 7.3).

Shejwalkar and Houmansadr (2021) invented them. Distances along the line follow from inner products of the
rows and the direction, so that gamma is found without touching the data again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flwr_robust import rules
from flwr_robust.rules.checks import whole_number

from .base import Attack
from .moments import Matrix, Vector, column_blocks, inner_products
from .search import try_factors
from .sight import Sight, repeat

DIRECTIONS: dict[str, str] = {
    "unit": "minus the mean, at length 1",
    "std": "minus the standard deviation of each coordinate",
    "sign": "minus the sign of the mean",
}
# The update is rounded to the updates' dtype afterwards, and must keep its bound then too.
MARGIN = 1e-6
HALVINGS = 60
FINE_STEPS = 17


class Perturbation(Attack):
    """Send ``mean + gamma p``, f times, with the gamma that a subclass finds (LASA 7.3).

    Attributes
    ----------
    direction : {"std", "unit", "sign"}
        p: minus the standard deviation of each coordinate, minus the mean at length 1, or minus its sign.
        LASA does not print which it takes.
    """

    direction: str

    knows = "honest"

    def __post_init__(self) -> None:
        if not isinstance(self.direction, str) or self.direction not in DIRECTIONS:
            known = "; ".join(f'"{name}": {meaning}' for name, meaning in DIRECTIONS.items())
            raise ValueError(f"{type(self).__name__} was given direction = {self.direction!r}; give one of {known}.")

    def towards(self, sight: Sight) -> Vector:
        """Return the (d,) direction p."""
        if self.direction == "std":
            return -sight.deviations()
        if self.direction == "sign":
            return -np.sign(sight.mean)
        length = float(np.linalg.norm(sight.mean))
        return -sight.mean / length if length > 0 else -sight.mean

    @abstractmethod
    def update(self, sight: Sight, direction: Vector) -> Vector:
        """Return the (d,) update, given p."""

    def craft(self, sight: Sight) -> Matrix:
        return repeat(self.update(sight, self.towards(sight)), sight.f, sight.honest)


@dataclass(frozen=True)
class MinMax(Perturbation):
    """Stay as near to each honest update as the two farthest of them are to each other (LASA 7.3).

    ``max gamma`` with ``max_i ||b - x_i|| <= max_ij ||x_i - x_j||``.

    Parameters
    ----------
    direction : {"std", "unit", "sign"}
        See `Perturbation`.
    """

    direction: str = "std"

    def update(self, sight: Sight, direction: Vector) -> Vector:
        """Return the update; the mean itself always keeps this bound, but for rounding."""
        line = Line(sight, direction)
        gamma = line.largest(lambda distances: distances.max(), float(line.between.max()))
        return sight.mean + (gamma or 0.0) * direction


@dataclass(frozen=True)
class MinSum(Perturbation):
    """Stay as near to all honest updates together as the outermost of them (LASA 7.3).

    ``max gamma`` with ``sum_i ||b - x_i|| <= max_i sum_j ||x_i - x_j||``; stealthy: the minimum over i. Distances are
    not squared, as LASA prints them.

    Parameters
    ----------
    direction : {"std", "unit", "sign"}
        See `Perturbation`.
    stealthy : bool
        Take the innermost honest update for the bound. Where even the mean lies outside of it, that honest update
        is sent, which is on it.
    """

    direction: str = "std"
    stealthy: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.stealthy, bool):
            raise ValueError(f"MinSum was given stealthy = {self.stealthy!r}; give True or False.")

    def update(self, sight: Sight, direction: Vector) -> Vector:
        line = Line(sight, direction)
        totals = line.between.sum(axis=1)
        gamma = line.largest(lambda distances: distances.sum(), float(totals.min() if self.stealthy else totals.max()))
        if gamma is not None:
            return sight.mean + gamma * direction
        # The mean misses the other bound by rounding alone.
        return sight.known[int(np.argmin(totals))].astype(np.float64) if self.stealthy else sight.mean


class Line:
    """The distances between the honest updates, and from them to the points ``mean + gamma p``.

    Attributes
    ----------
    between : (k, k) float64 array
        Distances between the known updates.
    """

    def __init__(self, sight: Sight, direction: Vector) -> None:
        gram = inner_products(sight.known, sight.mean, direction)
        own = gram.diagonal()[:-1]
        squares = own[:, None] + own[None, :] - 2 * gram[:-1, :-1]
        np.fill_diagonal(squares, 0.0)
        self.between = np.sqrt(np.maximum(squares, 0.0))
        self._to_mean, self._along, self._length = own, gram[:-1, -1], float(gram[-1, -1])

    def distances(self, gamma: float) -> Vector:
        """Return the (k,) distances of the known updates to ``mean + gamma p``."""
        squares = self._to_mean - 2 * gamma * self._along + gamma**2 * self._length
        distances: Vector = np.sqrt(np.maximum(squares, 0.0))
        return distances

    def largest(self, measure: Callable[[Vector], float], bound: float) -> float | None:
        """Return the largest gamma with ``measure(distances) <= bound``, by doubling and halving.

        The measure must be a norm of the distances, which is convex in gamma: beyond the largest gamma the
        bound is broken for good. None where the mean breaks it already and nothing on the line is sure to keep it.
        """
        if measure(self.distances(0.0)) > bound:
            return None
        if self._length == 0:
            return 0.0
        bound *= 1 - MARGIN
        low, high = 0.0, 1.0 / self._length**0.5
        while measure(self.distances(high)) <= bound:
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if measure(self.distances(middle)) <= bound else (low, middle)
        return low


@dataclass(frozen=True)
class TailoredTrimmedMean(Perturbation):
    """Drive the trimmed mean as far from the honest mean as the direction allows (LASA 7.3).

    ``gamma`` maximises ``|| TrimmedMean(x_1..x_{n-f}, b..b) - mean ||``. LASA speaks of the distance between "simple
    average" and trimmed mean: it can only be the honest average, because the one of all updates follows
    gamma without end. Gamma is searched up to where b is outermost in each coordinate.

    Parameters
    ----------
    f : int, optional
        Values that the trimmed mean drops at either end. Default: the number of malicious nodes.
    direction : {"std", "unit", "sign"}
        See `Perturbation`.
    """

    f: int | None = None
    direction: str = "std"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number(self.f, "f", "TailoredTrimmedMean", at_least=0, or_none=True)

    def update(self, sight: Sight, direction: Vector) -> Vector:
        return sight.mean + self.gamma(sight, direction) * direction

    def gamma(self, sight: Sight, direction: Vector) -> float:
        """Return the factor that does most damage: by doubling, then in smaller steps around the best."""
        rule = rules.TrimmedMean(f=sight.f if self.f is None else int(self.f))
        end = _saturation(sight, direction)
        coarse = [0.0, *(end * 2.0 ** (step / 2) for step in range(-40, 1))]
        at = _first_best(try_factors(sight, direction, coarse, rule).errors)
        low, high = coarse[max(at - 1, 0)], coarse[min(at + 1, len(coarse) - 1)]
        fine = [*np.linspace(low, coarse[at], FINE_STEPS).tolist(), *np.linspace(coarse[at], high, FINE_STEPS).tolist()]
        return float(fine[_first_best(try_factors(sight, direction, fine, rule).errors)])


def _first_best(damages: Vector) -> int:
    """Return the first place whose damage is the largest, up to rounding: a plateau's least gamma."""
    return int(np.argmax(damages >= np.nanmax(damages) * (1 - 1e-7)))


def _saturation(sight: Sight, direction: Vector) -> float:
    """Return the gamma from which on ``mean + gamma p`` is outermost in each coordinate: nothing changes beyond."""
    largest = 0.0
    for block in column_blocks(len(direction)):
        rows, mean, step = sight.known[:, block], sight.mean[block], direction[block]
        reach = np.where(step > 0, rows.max(axis=0) - mean, mean - rows.min(axis=0))
        moves = step != 0
        if moves.any():
            largest = max(largest, float((reach[moves] / np.abs(step[moves])).max()))
    return largest
