"""MultiKrum: the mean of the rows whose nearest neighbours are the nearest."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.geometry import Geometry, Matrix, Needs, Weights, lowest
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.checks import norm_order, whole_number


def krum_scores(squared_distances: Matrix, neighbors: int) -> Weights:
    """Sum of the squared distances of each row to its `neighbors` nearest other rows.

    Parameters
    ----------
    squared_distances : (m, m) float64 array
        Zero on the diagonal.
    neighbors : int
        From 0 to m - 1.
    """
    others = np.sort(squared_distances + np.diag(np.full(len(squared_distances), -1.0)), axis=1)[:, 1:]
    scores: Weights = others[:, :neighbors].sum(axis=1)
    return scores


class MultiKrum(LinearRule):
    r"""Mean of the m rows with the least Krum scores.

    $$F(X) = \frac{1}{m} \sum_{j \in M} x_j, \quad s_j = \sum_{i \in N_j} \lVert x_j - x_i \rVert_p^2$$

    where M are the m rows with the least scores s_j, and N_j the rows nearest to x_j, itself left out:
    n - f - 1 of them, or `num_neighbors`. Needs n > 2f.

    Source: ARC, section 2; NNM, section 15.1.3; scores as in NNM, section 8.1.2.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    m : int, optional
        Rows to average; by default n - f.
    p : float
        Distances are of the lp norm, 1 <= p <= infinity; any p but 2 takes a pass over the data more.
    num_neighbors : int, optional
        Neighbours in a score; n - f - 2 is Blanchard et al.'s number and MixTailor's (3).
    """

    name = "multi-krum"
    source = "ARC 2, NNM 15.1.3"
    breakdown = "1/2"
    cost = "2"

    def __init__(
        self, f: int | float = 0, m: int | None = None, p: float = 2, num_neighbors: int | None = None
    ) -> None:
        super().__init__(f)
        owner = type(self).__name__
        self.p = norm_order(p, owner)
        self.m: int | None = whole_number(m, "m", owner, or_none=True)
        self.num_neighbors: int | None = whole_number(num_neighbors, "num_neighbors", owner, or_none=True)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Euclidean distances; others are measured on the mixed rows."""
        return Needs.DISTANCES if self.p == 2 else Needs.NOTHING

    @property
    def requirement(self) -> str:  # type: ignore[override]
        """What the number of rows must be."""
        parts = ["n > 2f", f"n >= m = {self.m}" if self.m and self.m > 1 else "", self._neighbor_requirement]
        return " and ".join(part for part in parts if part)

    @property
    def _neighbor_requirement(self) -> str:
        return f"n > num_neighbors = {self.num_neighbors}" if self.num_neighbors else ""

    def least_rows(self, f: int) -> int:
        return max(2 * f + 1, self.m or 1, (self.num_neighbors or 0) + 1)

    def weights(self, rows: Geometry, f: int) -> Weights:
        neighbors = rows.count - f - 1 if self.num_neighbors is None else self.num_neighbors
        count = rows.count - f if self.m is None else self.m
        chosen = lowest(krum_scores(rows.squared_distances, neighbors), count)
        weights = np.zeros(rows.count)
        weights[chosen] = 1.0 / count
        return weights
