"""RFA: a few of Weiszfeld's steps from the mean towards the geometric median."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.inner import distances_from

# Stands for a distance of zero, in the least positive distance, where most distances are zero.
NEAR = 1e-6


class RFA(LinearRule):
    r"""Robust federated averaging: a few smoothed steps of Weiszfeld's from the mean.

    $$v \leftarrow \frac{\sum_i b_i x_i}{\sum_i b_i}, \quad
    b_i = \frac{1}{\max(\lVert x_i - v \rVert, \nu m)}$$

    `iterations` times from the mean of the rows, with m the median distance of the rows to it: the smoothing is
    relative (the paper's is absolute), so that the result scales with the rows. It is not the geometric median, which
    takes more steps: use `GeometricMedian` for that. Needs n >= 1.

    Source: Pillutla, Kakade and Harchaoui, IEEE TSP 2022, Algorithm 2. FLPoison starts at zero instead of the mean;
    FedML's weights are a set, which drops equal ones, and each of its layers runs alone.

    Parameters
    ----------
    iterations : int
        Steps, of no pass over the data.
    nu : float
        Smoothing, in median distances.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.RFA(iterations=1)(np.array([[0.0], [0.0], [3.0]]))
    array([0.6])
    """

    name = "rfa"
    needs = Needs.DISTANCES
    takes_f = False
    requirement = "n >= 1"
    source = "RFA Alg. 2"
    breakdown = "1/2 with steps enough"
    masked = True
    cost = "2"

    def __init__(self, iterations: int = 3, nu: float = 1e-6) -> None:
        super().__init__()
        self.iterations: int = whole_number(iterations, "iterations", "RFA")
        self.nu = number(nu, "nu", "RFA", above=0)

    def weights(self, rows: Geometry, f: int) -> Weights:
        v = np.full(rows.count, 1.0 / rows.count)
        distances = distances_from(rows.inner, v)
        least = self.nu * float(np.median(distances))
        for _ in range(self.iterations):
            if not distances.any():
                break
            lowest = least or NEAR * float(distances[distances > 0].min())
            closeness = lowest / np.maximum(distances, lowest)
            v = closeness / closeness.sum()
            distances = distances_from(rows.inner, v)
        return v
