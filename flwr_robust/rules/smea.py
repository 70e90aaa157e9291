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

# Sets of rows beyond which the search is not begun: at most about ten seconds' work.
MOST_SETS = 50_000


class SMEA(LinearRule):
    r"""Smallest maximum eigenvalue averaging: the mean of the n - f rows that vary least along any direction.

    $$F(X) = \frac{1}{n - f} \sum_{i \in S} x_i, \quad
    S \in \operatorname*{argmin}_{|S| = n - f} \lambda_{\max}\left( \frac{1}{|S|} \sum_{i \in S} (x_i - \bar{x}_S)
    (x_i - \bar{x}_S)^T \right)$$

    Of several such sets the first in lexicographic order. Exact, by branch and bound on the inner products alone: a
    row more never lowers the largest eigenvalue of the scatter. Needs n > 2f, and few sets: at most 50,000. Where
    there are more, `CAF` has no search. kappa = 4f/(n - f) (1 + f/(n - 2f))^2.

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
        if sets > MOST_SETS:
            raise GaveUpError(
                f"SMEA(f={self.f}) was given n = {n} rows, of which there are {sets} sets to compare, but it searches "
                f"at most {MOST_SETS}: take a smaller f, or CAF, which needs no search."
            )
        return mean_of(_Search(rows.inner, n - f).best_set(), n)


class _Search:
    """Sets of `size` rows, in lexicographic order; those that begin with too large a scatter are passed over."""

    def __init__(self, inner: Matrix, size: int) -> None:
        self.inner, self.size = inner, size
        # Rows that a greedy search keeps: no set with a larger scatter need be looked at.
        self.least = self._scatter(self._greedy())
        self.found: list[int] | None = None

    def best_set(self) -> list[int]:
        """Return the set with the least top eigenvalue, the first of several."""
        self._extend([])
        assert self.found is not None
        return self.found

    def _extend(self, chosen: list[int]) -> None:
        if len(chosen) > 1:
            scatter = self._scatter(chosen)
            # The first set that is as good as the greedy one, then only better ones.
            if scatter > self.least * (1 + TIE) or (self.found is not None and scatter >= self.least * (1 - TIE)):
                return
            if len(chosen) == self.size:
                self.least, self.found = scatter, chosen
                return
        elif len(chosen) == self.size:
            self.found = self.found or chosen
            return
        start = chosen[-1] + 1 if chosen else 0
        missing = self.size - len(chosen)
        for row in range(start, len(self.inner) - missing + 1):
            self._extend([*chosen, row])

    def _scatter(self, chosen: list[int]) -> float:
        """Return the largest eigenvalue of the scatter of some rows: their covariance, times their number."""
        inner = self.inner[np.ix_(chosen, chosen)]
        centred = relative(inner, np.full(len(chosen), 1.0 / len(chosen)))
        top = float(np.linalg.eigvalsh(centred)[-1])
        return top if top > ROUNDING * float(inner.diagonal().max()) else 0.0

    def _greedy(self) -> list[int]:
        """Return the rows that are left when the one whose removal helps most is taken away, again and again."""
        left = list(range(len(self.inner)))
        while len(left) > self.size:
            _, row = min((self._scatter([other for other in left if other != row]), row) for row in left)
            left.remove(row)
        return left
