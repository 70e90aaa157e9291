"""SMEA: the mean of the n - f rows whose covariance has the least top eigenvalue, exact."""

from __future__ import annotations

from math import comb

import numpy as np

from flwr_robust.engine.device import Matrix, Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import TIE, Geometry
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.inner import ROUNDING, mean_of, relative
from flwr_robust.rules.run import GaveUpError

# Sets beyond which the search is not begun, unless they hold few rows in all: about ten seconds' work.
FEW_SETS, FEW_ROWS = 5_000, 4_000_000
# Directions that sets are compared along.
DIRECTIONS = 64


class SMEA(LinearRule):
    r"""Smallest maximum eigenvalue averaging: the mean of the n - f rows that vary least along any direction.

    $$F(X) = \frac{1}{n - f} \sum_{i \in S} x_i, \quad
    S \in \mathrm{argmin}_{|S| = n - f} \lambda_{\max}(\Sigma_S), \quad
    \Sigma_S = \frac{1}{|S|} \sum_{i \in S} (x_i - \bar{x}_S)(x_i - \bar{x}_S)^T$$

    Of several such sets the first in lexicographic order. Exact, by branch and bound on the inner products alone: a
    row more never lowers the largest eigenvalue of the scatter. Needs n > 2f, and few sets: at most 5,000,
    or 4,000,000 / n. Where there are more, `CAF` has no search. kappa = 4f/(n - f) (1 + f/(n - 2f))^2.

    Source: Allouah, Guerraoui, Gupta, Pinot and Stephan, ICML 2023. ByzFL ranks sets by one power step from a random
    start, so that equal calls choose different ones.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Raises
    ------
    GaveUpError
        A ValueError, when called, if there are too many sets; strategies then skip the round.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.SMEA(f=1)(np.array([[1.0], [2.0], [3.0], [900.0]]))
    array([2.])
    """

    name = "smea"
    needs = Needs.DISTANCES
    requirement = "n > 2f, few subsets"
    source = "SMEA"
    breakdown = "1/2"
    cost = "2, and a search among n rows"

    def kappa(self, n: int, f: int) -> float | None:
        return 4 * f / (n - f) * (1 + f / (n - 2 * f)) ** 2

    def weights(self, rows: Geometry, f: int) -> Weights:
        n, sets = rows.count, comb(rows.count, f)
        if sets > FEW_SETS and sets * n > FEW_ROWS:
            raise GaveUpError(
                f"SMEA(f={self.f}) was given n = {n} rows, which have {sets} sets to compare, but it compares at most "
                f"{FEW_SETS}, or {FEW_ROWS // n} of so many rows: take a smaller f, or CAF, which needs no search."
            )
        return mean_of(_Search(rows.inner, n - f).best_set(), n)


class _Search:
    """Sets of `size` rows, in lexicographic order; those that begin with too large a scatter are passed over.

    The scatter of a set, its covariance times its number, is at least as large as its scatter along any direction. The
    top directions of the sets that were measured tell most others apart, at the cost of two sums.
    """

    def __init__(self, inner: Matrix, size: int) -> None:
        self.inner, self.size, self.sizes = inner, size, inner.diagonal()
        # The rows' projections on the directions, and how many there are.
        self.projections, self.directions = np.zeros((len(inner), DIRECTIONS)), 0
        # What a greedy search keeps: no set with a larger scatter need be looked at.
        self.greedy = self._greedy()
        self.least = self._scatter(self.greedy)
        self.found: list[int] | None = None

    def best_set(self) -> list[int]:
        """Return the set with the least top eigenvalue, the first of several."""
        self._extend([])
        # Where rounding blurs the rows, each set may seem to be beaten.
        return self.greedy if self.found is None else self.found

    def _extend(self, chosen: list[int]) -> None:
        start, missing = chosen[-1] + 1 if chosen else 0, self.size - len(chosen)
        left = range(start, len(self.inner))
        if len(left) == missing:
            self._compare([*chosen, *left])
        elif not missing:
            self._compare(chosen)
        elif not self._is_beaten(self._least_scatter(chosen)):
            for row in left[: len(left) - missing + 1]:
                self._extend([*chosen, row])

    def _compare(self, chosen: list[int]) -> None:
        if not self._is_beaten(self._least_scatter(chosen)):
            scatter = self._scatter(chosen)
            if not self._is_beaten(scatter):
                self.least, self.found = scatter, chosen

    def _is_beaten(self, scatter: float) -> bool:
        # The first set that is as good as the greedy one counts, then only better ones.
        return scatter > self.least * (1 + TIE) if self.found is None else scatter >= self.least * (1 - TIE)

    def _least_scatter(self, chosen: list[int]) -> float:
        """Return the largest scatter of some rows along the directions: theirs is no less."""
        known = self.projections[chosen, : min(self.directions, DIRECTIONS)]
        if not known.size:
            return 0.0
        known = known - known[0]
        along = np.square(known).sum(axis=0) - np.square(known.sum(axis=0)) / len(known)
        # What rounding may have added, which is relative to the rows themselves.
        return float(along.max()) - ROUNDING * float(self.sizes[chosen].max())

    def _scatter(self, chosen: list[int]) -> float:
        """Return the largest eigenvalue of the scatter of some rows, and keep its direction."""
        inner = self.inner[np.ix_(chosen, chosen)]
        values, vectors = np.linalg.eigh(relative(inner, np.full(len(chosen), 1.0 / len(chosen))))
        top = float(values[-1])
        if top <= ROUNDING * float(self.sizes[chosen].max()):
            return 0.0
        direction = (vectors[:, -1] - vectors[:, -1].mean()) / np.sqrt(top)
        self.projections[:, self.directions % DIRECTIONS] = self.inner[:, chosen] @ direction
        self.directions += 1
        return top

    def _greedy(self) -> list[int]:
        """Return the rows that are left when the one that is farthest along the top direction goes, again and again."""
        left = list(range(len(self.inner)))
        while len(left) > self.size:
            if self._scatter(left):
                latest = self.projections[left, (self.directions - 1) % DIRECTIONS]
                left.pop(int(np.abs(latest - latest.mean()).argmax()))
            else:
                left.pop()
        return left
