"""Random draws of attacks: one generator per call, so that a round's draws depend on its number alone."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rules.checks import whole_number

_WORD = 2**32


class Draws:
    """One generator for each call, made of the seed, the place and the number of the call.

    Parameters
    ----------
    seed : int or None
        None takes one from the operating system.
    owner : str
        Who draws, for the error.

    Raises
    ------
    ValueError
        If the seed is neither None nor a whole number of 0 or more.
    """

    def __init__(self, seed: int | None, owner: str) -> None:
        self._owner = owner
        given = whole_number(seed, "seed", owner, at_least=0, or_none=True)
        self._seed: int = secrets.randbits(128) if given is None else given
        self.move_to()

    def move_to(self, *place: int) -> None:
        """Start again with the draws of a place such as (node, round); without one, with the first draws."""
        self._place, self._calls = place, 0

    def next(self) -> np.random.Generator:
        """Return the generator of the next call."""
        self._calls += 1
        # The number of words keeps (seed, place) apart from a longer seed.
        return np.random.default_rng([len(self._place), *self._place, self._calls, self._seed])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the seed, and how many calls have drawn from it."""
        words = []
        left = self._seed
        while left:
            left, word = divmod(left, _WORD)
            words.append(word)
        return {"calls": np.array(self._calls), "seed": np.array(words, dtype=np.uint64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where `state` was taken.

        Raises
        ------
        ValueError
            If it is no such state.
        """
        if state.keys() != {"calls", "seed"}:
            raise ValueError(f"{self._owner} was given the state {sorted(state)}; load that of the same attack.")
        self._calls = int(state["calls"])
        self._seed = sum(int(word) * _WORD**place for place, word in enumerate(state["seed"].tolist()))
