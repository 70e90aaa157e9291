"""Random draws that can be seeded, started again, saved and restored."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

# What the place of a generator is called in a stage's memory.
DRAWS = "draws"
_WORD = 2**64


class Random:
    """A stage that draws at random: what it remembers is where its draws stand.

    Attributes
    ----------
    seed : int or None
        None takes the seed from the operating system.
    """

    remembers: ClassVar[tuple[str, ...]] = (DRAWS,)
    seed: int | None

    def initial_memory(self) -> dict[str, NDArray[Any]]:
        """Return the place where the draws begin."""
        return {DRAWS: position_of(np.random.Generator(np.random.PCG64(self.seed)))}


def position_of(generator: np.random.Generator) -> NDArray[np.uint64]:
    """Return where a PCG64 generator stands, as (6,) words."""
    now: Any = generator.bit_generator.state
    words = [part for name in ("state", "inc") for part in divmod(now["state"][name], _WORD)]
    return np.array([*words, now["has_uint32"], now["uinteger"]], dtype=np.uint64)


def generator_at(position: NDArray[Any]) -> np.random.Generator:
    """Return a generator that goes on from where `position_of` found one."""
    words = [int(word) for word in position]
    generator = np.random.Generator(np.random.PCG64(0))
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": words[0] * _WORD + words[1], "inc": words[2] * _WORD + words[3]},
        "has_uint32": words[4],
        "uinteger": words[5],
    }
    return generator
