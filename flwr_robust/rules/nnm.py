"""Nearest-neighbour mixing: NNM."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.geometry import Geometry, Needs, lowest
from flwr_robust.rules.base import PreAggregation
from flwr_robust.rules.run import Trace


class NNM(PreAggregation):
    r"""Nearest-neighbour mixing: each row becomes the mean of its n - f nearest rows, itself included.

    $$y_i = \frac{1}{n - f} \sum_{j=1}^{n-f} x_{i:j}$$

    with ``x_{i:j}`` the j-th nearest row to ``x_i``; ties go
    to the lower index. Needs n > 2f; a rule with coefficient kappa gets 8f/(n - f) (kappa + 1).

    Source: NNM, Algorithm 2, equation (1) and Lemma 1.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.NNM(f=1)(np.array([[0.0], [2.0], [10.0]]))
    array([[1.],
           [1.],
           [6.]])
    """

    name = "nnm"
    needs = Needs.DISTANCES
    mixes = True
    source = "NNM Alg. 2"
    breakdown = "the rule's"
    cost = "1, shared with the chain"

    def kappa_after(self, kappa: float, n: int, f: int) -> float | None:
        return 8 * f / (n - f) * (kappa + 1)  # NNM, Lemma 1

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        m = rows.count
        distances = rows.squared_distances.copy()
        # The row itself comes first, also among its duplicates.
        np.fill_diagonal(distances, -1.0)
        mixing = np.zeros((m, m))
        for row in range(m):
            mixing[row, lowest(distances[row], m - f)] = 1.0 / (m - f)
        return rows.mix(mixing)
