"""The geometric median of the means of groups of rows."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.checks import whole_number
from flwr_robust.rules.geometric_median import median_weights

# As GeometricMedian has them by default.
TOL, MAX_ITERATIONS = 1e-6, 100


class GeometricMedianOfMeans(LinearRule):
    r"""Geometric median of the means of k groups of rows.

    $$F(X) = \operatorname*{argmin}_y \sum_{g=1}^{k} \lVert y - \bar{x}_{B_g} \rVert$$

    The rows, in their order, are cut into k consecutive groups whose sizes differ by at most one, the larger ones
    first; one group makes the mean. The result depends on the order of the rows: strategies order them by node id.
    Needs n > 2f.

    Source: Chen, Su and Xu, POMACS 2017, Algorithm 2.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    groups : int, optional
        k, at most as many as there are rows; by default 2f + 1.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.GeometricMedianOfMeans(f=1)(np.array([[1.0], [3.0], [4.0], [6.0], [900.0]]))
    array([5.])
    """

    name = "geometric-median-of-means"
    needs = Needs.DISTANCES
    source = "Chen et al., 2017, Alg. 2"
    breakdown = "1/2 (k > 2f)"
    cost = "2"

    def __init__(self, f: int | float = 0, groups: int | None = None) -> None:
        super().__init__(f)
        self.groups: int | None = whole_number(groups, "groups", "GeometricMedianOfMeans", or_none=True)

    def weights(self, rows: Geometry, f: int) -> Weights:
        groups = min(self.groups or 2 * f + 1, rows.count)
        means = np.zeros((groups, rows.count))
        for mean, members in zip(means, np.array_split(np.arange(rows.count), groups), strict=True):
            mean[members] = 1.0 / len(members)
        mixed = rows.mix(means)
        found: Weights = median_weights(mixed.squared_distances, mixed.inner, TOL, MAX_ITERATIONS) @ means
        return found
