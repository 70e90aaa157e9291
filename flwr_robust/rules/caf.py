"""CAF: weigh down what stands out along the direction of largest variance, until that direction says nothing more."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import Matrix, Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.inner import ROUNDING, relative

# Weights that are left over by rounding count as none; and so does what is missing of a whole number of rows.
NOTHING = 1e-9


class CAF(LinearRule):
    r"""Covariance-bound agnostic filter: the weighted mean whose weighted covariance has the least top eigenvalue.

    $$F(X) = \mu_c = \frac{\sum_i c_i x_i}{\sum_i c_i}, \quad
    c_i \leftarrow c_i \left(1 - \frac{t_i}{\max_{c_j > 0} t_j}\right), \quad t_i = \langle x_i - \mu_c, v \rangle^2$$

    with v the top eigenvector of the covariance under the weights c, which start at one; as long as they add up to
    more than n - 2f. Of all means on the way the one with the least top eigenvalue is returned. Each step takes one
    row's weight away, so there are at most n. No bound on the honest covariance has to be known: the error is bounded
    by its largest eigenvalue, which is no kappa in NNM's sense. Needs n > 2f.

    Source: Allouah, Guerraoui and Stephan, ICML 2025, Algorithm 2. ByzFL takes one power step from a random start, so
    that equal calls differ, and the maximum over rows without weight too, so that it may not end.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.CAF(f=1)(np.array([[1.0], [2.0], [3.0], [900.0]])).round(2)
    array([2.])
    """

    name = "caf"
    needs = Needs.DISTANCES
    source = "CAF Alg. 2"
    breakdown = "1/2"
    cost = "2"

    def weights(self, rows: Geometry, f: int) -> Weights:
        n, inner = rows.count, rows.inner
        c = np.ones(n)
        best, least = c / n, np.inf
        while c.sum() > n - 2 * f + NOTHING:
            active = np.flatnonzero(c)
            shares = c[active] / c[active].sum()
            variance, scores = _along_the_top(inner[np.ix_(active, active)], shares)
            if variance < least:
                best, least = np.zeros(n), variance
                best[active] = shares
            if not scores.any():
                break
            c[active] *= 1.0 - scores / scores.max()
            c[c < NOTHING / n] = 0.0
        return best


def _along_the_top(inner: Matrix, shares: Weights) -> tuple[float, Weights]:
    """Return the largest eigenvalue of the rows' covariance under the shares, and their squared projections on it."""
    centred = relative(inner, shares)
    roots = np.sqrt(shares)
    values, vectors = np.linalg.eigh(roots[:, None] * centred * roots)
    variance = float(values[-1])
    if variance <= ROUNDING * float(inner.diagonal().max()):
        return 0.0, np.zeros(len(shares))
    projections = centred @ (roots * vectors[:, -1])
    return variance, projections**2 / variance
