"""What the attackers know of a round, and the moments that they estimate from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .moments import Matrix, Vector, column_deviations, column_means

Rule = Callable[[Any], Any]


@dataclass(frozen=True)
class Sight:
    """A round as the attackers see it.

    Attributes
    ----------
    honest : (m, d) float array
        The honest updates that they see.
    f : int
        Malicious nodes in the round.
    rule : callable or None
        The server's aggregation, ``(n, d) -> (d,)``.
    ids : sequence of hashable
        Names of the honest rows.
    trained : (f, d) float array or None
        What the malicious nodes' own honest training gave, where it is known.
    unseen : int
        Honest updates that they do not see.
    previous : (d,) float array or None
        The last move of the global model, where it is known.
    """

    honest: Matrix
    f: int
    rule: Rule | None = None
    ids: Sequence[Hashable] = ()
    trained: Matrix | None = None
    unseen: int = 0
    previous: Vector | None = None

    @property
    def num_honest(self) -> int:
        """Number of honest updates in the round, seen or not."""
        return len(self.honest) + self.unseen

    @cached_property
    def known(self) -> Matrix:
        """(k, d) sample that means and deviations are taken of: all honest updates.

        Where some are not seen, the attackers' own join those that are (MixTailor A.1.2).
        """
        if not self.unseen or self.trained is None:
            return self.honest
        return np.concatenate([self.honest, self.trained])

    @cached_property
    def mean(self) -> Vector:
        """(d,) mean of the sample; it stands for each honest update that is not seen (MixTailor A.1.2)."""
        return column_means(self.known)

    def deviations(self, ddof: int = 0) -> Vector:
        """Return the (d,) standard deviation of the sample, with divisor ``k - ddof``."""
        return column_deviations(self.known, ddof, self.mean)

    @cached_property
    def honest_sum(self) -> Vector:
        """(d,) sum of all honest updates, as far as it can be known."""
        if not self.unseen:
            return self.mean * len(self.honest)
        guessed = self.unseen * self.mean
        return guessed + column_means(self.honest) * len(self.honest) if len(self.honest) else guessed

    @property
    def own(self) -> Matrix:
        """(f, d) updates of the malicious nodes, had they been honest: the mean where they are not known."""
        return repeat(self.mean, self.f, self.honest) if self.trained is None else self.trained


def repeat(update: Vector, f: int, like: NDArray[Any]) -> Matrix:
    """Return the (f, d) matrix of f equal rows, in the dtype of `like`."""
    with np.errstate(over="ignore"):
        return np.repeat(update.astype(like.dtype)[None], f, axis=0)
