"""Minimum-diameter averaging, exact: the n - f rows that lie closest together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.geometry import TIE, Geometry, Matrix, Needs, Weights
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.run import GaveUpError

# Rows that the search may look at before it gives up: about ten seconds' work, whatever n and f.
LIMIT = 16_000_000


class MDA(LinearRule):
    r"""Minimum-diameter averaging: the mean of the n - f rows with the least diameter.

    $$F(X) = \frac{1}{n - f} \sum_{i \in S} x_i, \quad
    S \in \operatorname*{argmin}_{|S| = n - f} \, \max_{i, j \in S} \lVert x_i - x_j \rVert$$

    Of several such sets the first in lexicographic order. Exact, by branch and bound on the distances
    alone. Needs n > 2f.

    Source: NNM, section 15.1.3 (Rousseeuw, 1985; El Mhamdi et al., 2018).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Raises
    ------
    GaveUpError
        A ValueError, when called, if the search takes too long; strategies then skip the round.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import MDA
    >>> MDA(f=1)(np.array([[0.0], [3.0], [4.0], [6.0]]))
    array([4.33333333])
    """

    name = "mda"
    needs = Needs.DISTANCES
    source = "NNM 15.1.3"
    breakdown = "1/2"
    cost = "2, and a search among n rows"

    def weights(self, rows: Geometry, f: int) -> Weights:
        chosen = least_diameter(rows.squared_distances, f)
        weights = np.zeros(rows.count)
        weights[chosen] = 1.0 / len(chosen)
        return weights


def least_diameter(squared_distances: Matrix, f: int) -> list[int]:
    """Return the n - f rows with the least diameter; the lexicographically first of several such sets.

    A set has a diameter of at most t if leaving it out covers every pair that is farther apart than t. So
    the least t is found by bisection over the distances, each step a search for a vertex cover of at most
    f rows; then rows are kept one by one, from the first, where a cover without them is still found.

    Raises
    ------
    GaveUpError
        If the search takes too long.
    """
    n = len(squared_distances)
    if f == 0:
        return list(range(n))
    levels = np.unique(squared_distances)
    search = _Search(n, f)
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if search.cover(_far_pairs(squared_distances, levels[middle]), f) is None:
            low = middle + 1
        else:
            high = middle
    far = _far_pairs(squared_distances, levels[low])
    return _first_set(far, n, f, search)


def _far_pairs(squared_distances: Matrix, level: float) -> list[int]:
    """For each row, as bits of a number, the rows that are farther from it than this."""
    # Distances that differ by rounding alone are one: a set must not lose for it.
    far: NDArray[np.bool_] = squared_distances > level * (1 + TIE)
    return [sum(1 << int(j) for j in np.flatnonzero(row)) for row in far]


def _first_set(far: list[int], n: int, f: int, search: _Search) -> list[int]:
    """Return the lexicographically first set of n - f rows without a far pair."""
    kept: list[int] = []
    left, budget = (1 << n) - 1, f
    for row in range(n):
        if not left >> row & 1:
            continue
        # To keep this row, all rows that are far from it must go.
        out = far[row] & left
        rest = left & ~out & ~(1 << row)
        if (
            len(kept) < n - f
            and out.bit_count() <= budget
            and search.cover([far[i] & rest if rest >> i & 1 else 0 for i in range(n)], budget - out.bit_count())
            is not None
        ):
            kept.append(row)
            left &= ~out
            budget -= out.bit_count()
        else:
            left &= ~(1 << row)
            budget -= 1
    return kept


class _Search:
    """Bounded search for vertex covers, with one budget of work for all of them."""

    def __init__(self, n: int, f: int) -> None:
        self.n, self.f, self.work = n, f, 0

    def cover(self, far: list[int], budget: int) -> int | None:
        """Return at most `budget` rows, as bits, that every far pair has one of; None if there are none."""
        taken = 0
        while True:
            degrees = [pairs.bit_count() for pairs in far]
            most = max(degrees)
            if most == 0:
                return taken
            # No cover of so few rows has more pairs than they can touch.
            if sum(degrees) > 2 * budget * most:
                return None
            if most <= budget:
                break
            # A row with more far partners than may go must go itself.
            row = degrees.index(most)
            far, taken, budget = self._without(far, row), taken | 1 << row, budget - 1
            if budget < 0:
                return None
        row = degrees.index(most)
        first = self.cover(self._without(far, row), budget - 1)
        if first is not None:
            return taken | 1 << row | first
        partners, others = far[row], far
        for partner in range(self.n):
            if partners >> partner & 1:
                others = self._without(others, partner)
        second = self.cover(others, budget - most)
        return None if second is None else taken | partners | second

    def _without(self, far: list[int], row: int) -> list[int]:
        """Return the far pairs that a row has no part in."""
        self.work += self.n
        if self.work > LIMIT:
            raise GaveUpError(
                f"MDA(f={self.f}) gave up its exact search on n = {self.n} rows after looking at {LIMIT} rows: "
                "take a smaller f, or a rule without a search, such as MultiKrum or NNM with TrimmedMean."
            )
        mask = ~(1 << row)
        return [0 if i == row else pairs & mask for i, pairs in enumerate(far)]
