"""FABA: drop the row that is farthest from the mean, again and again."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.geometry import TIE, Geometry, Needs, Weights
from flwr_robust.rules.base import LinearRule


class FABA(LinearRule):
    r"""Mean of the rows that remain after f times the farthest row from their mean was dropped.

    $$F(X) = \bar{x}_U, \quad U \leftarrow U \setminus \operatorname*{argmax}_{i \in U} \lVert x_i - \bar{x}_U \rVert$$

    f times, from all rows on; then their mean. Of rows that are equally
    far, the last one goes. Needs n > 2f; LPA proves robustness for f < n/3.

    Source: LPA, appendix B.4, equation (72) (Xia et al., 2019).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import FABA
    >>> FABA(f=1)(np.array([[0.0], [1.0], [5.0]]))
    array([0.5])
    """

    name = "faba"
    needs = Needs.DISTANCES
    source = "LPA (72)"
    breakdown = "1/3"
    cost = "2"

    def weights(self, rows: Geometry, f: int) -> Weights:
        left = np.arange(rows.count)
        for _ in range(f):
            inner = rows.inner[np.ix_(left, left)]
            far = inner.diagonal() - 2.0 * inner.mean(axis=1) + inner.mean()
            last = np.flatnonzero(far >= far.max() - TIE * abs(far.max()))[-1]
            left = np.delete(left, last)
        weights = np.zeros(rows.count)
        weights[left] = 1.0 / len(left)
        return weights
