"""MoNNA: the mean of the rows that are nearest to the one of a trusted node."""

from __future__ import annotations

from collections.abc import Hashable

from flwr_robust.engine.device import FloatArray, Matrix, Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows, lowest
from flwr_robust.rules.base import Rule
from flwr_robust.rules.inner import mean_of
from flwr_robust.rules.run import GaveUpError
from flwr_robust.rules.side_inputs import name_of


class MoNNA(Rule):
    r"""Mean of the n - f rows that are nearest to the row of a trusted node, itself included.

    $$F(X) = \frac{1}{n - f} \sum_{i \in N} x_i, \quad N \text{ the } n - f \text{ rows nearest to } x_{reference}$$

    Ties go to the lower index, behind the trusted row itself. The paper waits for n - f vectors and keeps n - 2f of
    them; with all n present that is n - f. Needs n > 2f, and the reference among the ids.

    Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot and Stephan, ICML 2023.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    reference : hashable
        The id of the trusted node; without ids, and behind pre-aggregations that mix rows, a row number. A strategy
        skips rounds without that node.

    Raises
    ------
    GaveUpError
        A ValueError, when called, if the reference is not among the ids.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> X = np.array([[1.0], [2.0], [6.0], [900.0]])
    >>> rules.MoNNA(f=1, reference="mine")(X, ids=["a", "b", "mine", "c"])
    array([3.])
    """

    name = "monna"
    needs = Needs.DISTANCES
    optional = ("ids",)
    requirement = "n > 2f, a trusted node"
    source = "MoNNA"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, f: int | float = 0, reference: Hashable = 0) -> None:
        super().__init__(f)
        if not isinstance(reference, Hashable):
            raise ValueError(f"MoNNA was given reference = {reference!r}; give the id of the node that is trusted.")
        self.reference = reference

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        trusted = name_of(self.reference)
        if trusted not in rows.names:
            raise GaveUpError(
                f"MoNNA was given reference = {self.reference!r}, which is none of the ids of the {rows.count} rows; "
                "give the id of a node that takes part, or ids= that name it."
            )
        return rows.combine(nearest(rows.geometry.squared_distances, rows.names.index(trusted), rows.count, f))


def nearest(squared_distances: Matrix, pivot: int, count: int, f: int) -> Weights:
    """Weights of the mean of the count - f rows, of the first `count`, that are nearest to a pivot."""
    distances = squared_distances[pivot, :count].copy()
    if pivot < count:
        # The row itself comes first, also among its duplicates.
        distances[pivot] = -1.0
    return mean_of(lowest(distances, count - f), count)
