"""ByzMean: some nodes send a base attack, the others move the mean of all updates to it (LASA 7.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .base import Attack, OnBase
from .moments import Matrix, column_means
from .shifts import Lie
from .sight import Sight, repeat

PAPERS_BASE = Lie(0.5)


@dataclass(frozen=True)
class ByzMean(OnBase):
    """Make the mean of all updates equal to another attack's (LASA 7.3; Xu et al., 2022).

    ``m1 = floor(f/2)`` nodes send the base attack's updates, of mean b; the other ``m2 = f - m1`` send
    ``((n - m1) b - sum of the honest) / m2``. A single attacker sends the latter.

    Parameters
    ----------
    base : Attack
        An attack that makes updates.

    Examples
    --------
    >>> ByzMean(Lie(0.0))(np.array([[1.0], [3.0]]), f=2)
    array([[2.],
           [2.]])
    """

    base: Attack = PAPERS_BASE

    knows = "honest"

    def __post_init__(self) -> None:
        if not isinstance(self.base, Attack) or not self.base.makes_updates:
            raise ValueError(
                f"ByzMean was given base = {self.base!r}; give an attack that makes updates, such as Lie(0.5)."
            )
        if self.base.knows == "rule":
            object.__setattr__(self, "knows", "rule")

    def craft(self, sight: Sight) -> Matrix:
        first = sight.f // 2
        second = sight.f - first
        if not second:
            return repeat(sight.mean, 0, sight.honest)
        senders = max(first, 1)
        trained = None if sight.trained is None else sight.trained[:senders]
        wanted = self.base.craft(replace(sight, f=senders, trained=trained))
        target = column_means(wanted)
        total = sight.num_honest + sight.f
        others = ((total - first) * target - sight.honest_sum) / second
        return np.concatenate([wanted[:first], repeat(others, second, sight.honest)])
