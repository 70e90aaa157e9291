"""Simple clustering: the mean of the largest dense cluster of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from flwr_robust.engine.device import FloatArray, Matrix
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.clusters import by_density, largest
from flwr_robust.rules.inner import ROUNDING, mean_of
from flwr_robust.rules.median import Median

# Distances that differ by less than this share of themselves are equal.
EQUAL = 1e-12
MIN_ROWS = 3


class SimpleClustering(Rule):
    r"""Mean of the largest cluster of rows that DBSCAN finds; their coordinate-wise median where it finds none.

    $$F(X) = \frac{1}{|C|} \sum_{i \in C} x_i$$

    with C the largest cluster, of equally large ones the first. A row is a core if at least `min_rows` rows, itself
    included, lie within `radius`; clusters grow from cores in the order of the rows, and a row at a border joins the
    first that reaches it. Needs n >= 1.

    Source: FLPoison has it, without a paper; its radius is 0.05, whatever the size of the model, where most models have
    no cluster.

    Parameters
    ----------
    radius : float, optional
        How near neighbours are; by default the median distance of all pairs of rows.
    min_rows : int
        Rows within the radius of a core, itself included.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.SimpleClustering(radius=2.0)(np.array([[1.0], [2.0], [3.0], [900.0]]))
    array([2.])
    """

    name = "simple-clustering"
    needs = Needs.DISTANCES
    takes_f = False
    requirement = "n >= 1"
    source = "FLPoison"
    breakdown = "not proven"
    cost = "2"

    def __init__(self, radius: float | None = None, min_rows: int = MIN_ROWS) -> None:
        super().__init__()
        self.radius = None if radius is None else number(radius, "radius", "SimpleClustering", above=0)
        # `min_rows` of a rule is the smallest n that it accepts.
        self.rows_of_core: int = whole_number(min_rows, "min_rows", "SimpleClustering")

    def options(self) -> dict[str, Any]:
        radius = {} if self.radius is None else {"radius": self.radius}
        return radius | ({} if self.rows_of_core == MIN_ROWS else {"min_rows": self.rows_of_core})

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        distances = _distances(rows.geometry.squared_distances, rows.geometry.inner)
        radius = _median_pair(distances) if self.radius is None else self.radius / rows.geometry.unit
        members = largest(by_density(distances, radius * (1 + EQUAL), self.rows_of_core))
        if not members.any():
            return rows.reduce(lambda block, out: Median().reduce(block, 0, out), tensors=True)
        return rows.combine(mean_of(members, rows.count))


def _distances(squares: Matrix, inner: Matrix) -> Matrix:
    """Distances of the rows; what is rounding is zero."""
    sizes = inner.diagonal()
    found: Matrix = np.sqrt(np.where(squares <= ROUNDING * (sizes[:, None] + sizes[None, :]), 0.0, squares))
    return found


def _median_pair(distances: Matrix) -> float:
    pairs = distances[np.triu_indices(len(distances), 1)]
    return float(np.median(pairs)) if pairs.size else 0.0
