"""Random draws that can be seeded, started again, saved and restored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = 2**64


class Draws:
    """A stage's own random generator.

    Parameters
    ----------
    seed : int or None
        None takes the seed from the operating system.
    owner : str
        Who it belongs to, for the error.

    Raises
    ------
    ValueError
        If the seed is neither None nor a whole number of 0 or more.
    """

    def __init__(self, seed: int | None, owner: str) -> None:
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if seed is not None and not (whole and seed >= 0):
            raise ValueError(f"{owner} was given seed = {seed!r}; give None or a whole number of 0 or more.")
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Start the draws again."""
        self.generator = np.random.Generator(np.random.PCG64(self.seed))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return where the generator stands, as one array."""
        now: Any = self.generator.bit_generator.state
        words = [part for name in ("state", "inc") for part in divmod(now["state"][name], _WORD)]
        return {"draws": np.array([*words, now["has_uint32"], now["uinteger"]], dtype=np.uint64)}

    def load_state(self, state: dict[str, NDArray[Any]], owner: str) -> None:
        """Go on from where `state` stood.

        Raises
        ------
        ValueError
            If it is no such state.
        """
        words = [int(word) for word in state.get("draws", np.empty(0))]
        if state.keys() != {"draws"} or len(words) != 6:
            raise ValueError(f"{owner} was given the state {sorted(state)}; load the state of the same chain.")
        self.generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": words[0] * _WORD + words[1], "inc": words[2] * _WORD + words[3]},
            "has_uint32": words[4],
            "uinteger": words[5],
        }


class Drawing:
    """A stage whose `draws` are all that it keeps between calls."""

    draws: Draws

    def reset(self) -> None:
        """Start the draws again."""
        self.draws.reset()

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Stage.state`."""
        return self.draws.state()

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """See `Stage.load_state`."""
        self.draws.load_state(state, repr(self))
