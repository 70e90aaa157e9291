"""Clipped clustering: clip to the median of all norms so far, and average the larger of two clusters by angle."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows, clip_factors
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number
from flwr_robust.rules.clusters import largest, two_by_average_linkage
from flwr_robust.rules.inner import cosine_distances, mean_of
from flwr_robust.rules.run import COLUMNS

# Norms that are remembered, the newest ones: 8 MB.
LIMIT = 1_000_000
# Of cosine distances.
DIGITS = 14


class ClippedClustering(Rule):
    r"""Mean of the larger of two clusters of rows, which are clipped to the median of all norms seen so far.

    $$F(X) = \frac{1}{|C|} \sum_{i \in C} \min\left(1, \frac{\tau}{\lVert x_i \rVert}\right) x_i, \quad
    \tau = \operatorname{median} \{ \text{all norms so far} \}$$

    C is the larger of the two clusters that agglomerative clustering with average linkage makes of the cosine
    distances; of equally large ones, that of the lowest row. The norms of the latest million rows are remembered. Needs
    n >= 1.

    Source: Li, Ngai and Voigt, IEEE TBD 2023, Algorithm 1.

    Parameters
    ----------
    max_norm : float, optional
        Largest norm that a row may keep, whatever the median is.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.ClippedClustering()(np.array([[1.0, 0.0], [4.0, 0.0], [2.0, 0.0], [0.0, -9.0]])).round(3)
    array([2., 0.])
    """

    name = "clipped-clustering"
    needs = Needs.DISTANCES
    takes_f = False
    remembers = ("norms", COLUMNS)
    requirement = "n >= 1"
    source = "Li et al., 2023, Alg. 1"
    breakdown = "not proven"
    cost = "2"

    def __init__(self, max_norm: float | None = None) -> None:
        super().__init__()
        self.max_norm = None if max_norm is None else number(max_norm, "max_norm", "ClippedClustering", above=0)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        geometry = rows.geometry
        norms = np.append(rows.remembered.get("norms", np.zeros(0)), geometry.norms * geometry.unit)[-LIMIT:]
        threshold = min(float(np.median(norms)), np.inf if self.max_norm is None else self.max_norm)
        rows.remember(norms=norms)
        factors = clip_factors(geometry.norms, threshold / geometry.unit)
        # Clipping turns no row; only to zero it would take the angles away. What differs by rounding is a tie.
        angles = cosine_distances(geometry.inner_from_origin, geometry.squared_distances).round(DIGITS)
        chosen = largest(two_by_average_linkage(angles if threshold else 1.0 - np.eye(rows.count)))
        return rows.combine(mean_of(chosen, rows.count) * factors)
