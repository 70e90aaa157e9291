"""Comparative gradient elimination: the rows with the least norms, averaged."""

from __future__ import annotations

from flwr_robust.engine.device import Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, lowest
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.inner import mean_of


class CGE(LinearRule):
    r"""Comparative gradient elimination: the mean of the n - f rows with the least norms.

    $$F(X) = \frac{1}{n - f} \sum_{i=1}^{n-f} x_{(i)}, \quad
    \lVert x_{(1)} \rVert \le \ldots \le \lVert x_{(n)} \rVert$$

    Ties go to the lower index. Malicious rows that are no longer than the honest ones stay in. Needs n > 2f.

    Source: Gupta, Liu and Vaidya, DSN-W 2021; their first form sums the rows.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.CGE(f=1)(np.array([[1.0], [-2.0], [4.0], [900.0]]))
    array([1.])
    """

    name = "cge"
    needs = Needs.NORMS
    source = "Gupta et al., 2021"
    breakdown = "not proven"
    cost = "2"

    def weights(self, rows: Geometry, f: int) -> Weights:
        return mean_of(lowest(rows.norms, rows.count - f), rows.count)
