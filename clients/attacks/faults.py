"""Faults: what broken or hostile nodes send instead of a usable update."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rules.checks import number

from .base import Attack
from .moments import Matrix
from .noise import Drawing
from .sight import Sight


@dataclass(frozen=True)
class NonFinite(Attack):
    """Send a value that is no finite number in each float: training that diverged, or meant to spread.

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
class Scaled(Attack):
    """Send one's own update times a factor: ``b_i = factor x_i``; the honest mean where own ones are not known.

    Parameters
    ----------
    factor : float
        Any finite number; -1 flips the sign.
    """

    factor: float = 100.0

    knows = "own"

    def __post_init__(self) -> None:
        number(self.factor, "factor", "Scaled")

    def craft(self, sight: Sight) -> Matrix:
        with np.errstate(over="ignore"):
            return sight.own * sight.honest.dtype.type(self.factor)


class Malformed(Attack):
    """A reply whose arrays cannot be used; what it says beside them stays as it is."""

    knows = "own"
    makes_updates = False

    @abstractmethod
    def spoil(self, array: NDArray[Any]) -> NDArray[Any] | bytes:
        """Return what takes the place of an array: another one, or bytes that are none."""

    def craft(self, sight: Sight) -> Matrix:
        """Raise TypeError: there are no updates to compute."""
        raise no_updates(self)


@dataclass(frozen=True)
class WrongShape(Malformed):
    """Send arrays with one value more than was asked for, as a node with another model does."""

    def spoil(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the values and a zero, as one row."""
        return np.append(array.ravel(), array.dtype.type(0))


@dataclass(frozen=True)
class Garbage(Malformed, Drawing):
    """Send random bytes where arrays should be.

    Parameters
    ----------
    seed : int, optional
        See `clients.attacks.noise.Drawing`.
    """

    def spoil(self, array: NDArray[Any]) -> bytes:
        """Return random bytes, as many as the array has, and at least one."""
        return self.draws.next().bytes(max(array.nbytes, 1))


@dataclass(frozen=True)
class Silent(Attack):
    """Send no update at all.

    The adversary holds such replies back. A node on its own answers with an error, because Flower's nodes always
    answer; with `seconds` it waits first: for longer than the server does, and that hears nothing in time.

    Parameters
    ----------
    seconds : float
        How long a node on its own waits before it answers, 0 or more.
    """

    seconds: float = 0.0

    knows = "own"
    makes_updates = False

    def __post_init__(self) -> None:
        number(self.seconds, "seconds", "Silent", at_least=0)

    def craft(self, sight: Sight) -> Matrix:
        """Raise TypeError: there are no updates to compute."""
        raise no_updates(self)


def no_updates(attack: Attack) -> TypeError:
    """Return the error for who asks an attack for updates that it does not make."""
    return TypeError(
        f"{attack!r} makes no updates; use it on malicious nodes, with clients.mods.{type(attack).__name__} or "
        "in an Adversary."
    )
