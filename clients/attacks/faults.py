"""Faults: what broken or hostile nodes send instead of a usable update."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rules.checks import number

from .base import Attack, WithoutUpdates
from .moments import Matrix
from .noise import Randomised
from .sight import Sight
from .tuning import OPTIMAL, Tunable


@dataclass(frozen=True)
class NonFinite(Attack):
    """Send NaN or infinity in each float, as after training that diverged.

    Parameters
    ----------
    value : float
        NaN, infinity or minus infinity.
    """

    value: float = float("nan")

    knows = "own"

    def __post_init__(self) -> None:
        if not isinstance(self.value, float | np.floating) or np.isfinite(self.value):
            raise ValueError(f"NonFinite was given value = {self.value!r}; give NaN, infinity or minus infinity.")

    def craft(self, sight: Sight) -> Matrix:
        return np.full((sight.f, sight.honest.shape[1]), self.value, dtype=sight.honest.dtype)


@dataclass(frozen=True)
class Scaled(Tunable):
    """Send one's own update times a factor: ``b_i = factor x_i``; the honest mean where own ones are not known.

    Parameters
    ----------
    factor : float or "optimal"
        Any finite number; -1 flips the sign.
    """

    factor: float | str = 100.0

    knows = "own"
    tuned: ClassVar[str] = "factor"

    def __post_init__(self) -> None:
        if self.factor != OPTIMAL:
            number(self.factor, "factor", "Scaled")
        super().__post_init__()

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return -100 to 100, five a decade, and 0."""
        sizes = [round(10 ** (step / 5), 3) for step in range(-5, 11)]
        return (*(-size for size in reversed(sizes)), 0.0, *sizes)

    def craft_with(self, sight: Sight) -> Matrix:
        with np.errstate(over="ignore"):
            return sight.own * sight.honest.dtype.type(self.factor)


class Malformed(WithoutUpdates):
    """A reply whose arrays cannot be used; its metrics and other records stay as they are."""

    knows = "own"

    @abstractmethod
    def spoil(self, array: NDArray[Any]) -> NDArray[Any] | bytes:
        """Return what takes the place of an array: another one, or bytes that are none."""


@dataclass(frozen=True)
class WrongShape(Malformed):
    """Send arrays with one value more than were sent, as a node with another model does."""

    def spoil(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the values and a zero, as one row."""
        return np.append(array.ravel(), array.dtype.type(0))


@dataclass(frozen=True)
class Garbage(Malformed, Randomised):
    """Send random bytes where arrays should be.

    Parameters
    ----------
    seed : int, optional
        See `clients.attacks.noise.Randomised`.
    """

    def spoil(self, array: NDArray[Any]) -> bytes:
        """Return random bytes, as many as the array has, and at least one."""
        return self.draws.next().bytes(max(array.nbytes, 1))


@dataclass(frozen=True)
class Silent(WithoutUpdates):
    """Send no update at all.

    The adversary holds such replies back. A node on its own replies with an error, because Flower's nodes always
    reply; with `seconds` it waits first: if that is longer than the server waits, no reply arrives in time.

    Parameters
    ----------
    seconds : float
        How long a node on its own waits before it replies, 0 or more.
    """

    seconds: float = 0.0

    knows = "own"

    def __post_init__(self) -> None:
        number(self.seconds, "seconds", "Silent", at_least=0)
