"""NNA: the mean of the rows that are nearest to the server's own update."""

from __future__ import annotations

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.monna import nearest


class NNA(Rule):
    r"""Nearest neighbour averaging: the mean of the n - f rows that are nearest to the server's own update.

    $$F(X) = \frac{1}{n - f} \sum_{i \in N} x_i, \quad N \text{ the } n - f \text{ rows nearest to } root$$

    The pivot, `root`, is not averaged itself; ties go to the lower index. Needs n > 2f and a root update.

    Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot and Stephan, ICML 2023.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.NNA(f=1)(np.array([[1.0], [2.0], [900.0]]), root=np.array([1.5]))
    array([1.5])
    """

    name = "nna"
    needs = Needs.DISTANCES
    requires = ("root",)
    measured = ("root",)
    requirement = "n > 2f, a root update"
    source = "MoNNA"
    breakdown = "1/2"
    cost = "2"

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        pivot = rows.place("root")
        assert pivot is not None
        return rows.combine(nearest(rows.with_remembered().squared_distances, pivot, rows.count, f))
