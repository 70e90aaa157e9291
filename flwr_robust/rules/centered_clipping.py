"""Centered clipping: the last output, moved by the clipped differences of the rows from it."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Matrix, Needs, Weights, clip_factors
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number


class CenteredClipping(Rule):
    r"""Centered clipping around what the rule gave last.

    $$v \leftarrow v + \frac{1}{n} \sum_{i=1}^{n} \min\left(1, \frac{\tau}{\lVert x_i - v \rVert}\right) (x_i - v)$$

    `iterations` times; v starts at the last
    output, at zero in the first call and for a model of another size. All iterations happen among n + 1
    weights. Needs n >= 1; LPA proves robustness for f < n/2 with the right tau.

    Source: LPA, appendix B.3, equations (56) to (58) (Karimireddy et al., 2021).

    Parameters
    ----------
    tau : float, optional
        Clipping threshold; by default the median distance of the rows to v, in each iteration.
    iterations : int
        Steps a call.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import CenteredClipping
    >>> CenteredClipping(tau=3.0)(np.array([[1.0], [2.0], [900.0]]))
    array([2.])
    """

    name = "centered-clipping"
    needs = Needs.DISTANCES
    takes_f = False
    remembers = ("centre",)
    measured = ("centre",)
    requirement = "n >= 1 (n > 2f to tolerate f)"
    source = "LPA (56)-(58)"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, tau: float | None = None, iterations: int = 1) -> None:
        super().__init__()
        self.tau = None if tau is None else number(tau, "tau", "CenteredClipping", above=0)
        self.iterations: int = whole_number(iterations, "iterations", "CenteredClipping")

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        points = rows.with_remembered()
        # Inner products relative to zero, where v starts unless there is a last output: it is the last point.
        inner = points.inner_from_origin
        v = np.zeros(len(inner))
        v[rows.count :] = 1.0
        tau = None if self.tau is None else self.tau / points.unit
        for _ in range(self.iterations):
            v = _step(v, inner, rows.count, tau)
        vector = rows.combine(v)
        rows.remember(centre=vector)
        return vector


def _step(v: Weights, inner: Matrix, n: int, tau: float | None) -> Weights:
    """One step of (56), on the weights of the points."""
    products = inner @ v
    squares = inner.diagonal()[:n] - 2.0 * products[:n] + v @ products
    distances = np.sqrt(np.maximum(squares, 0.0))
    threshold = float(np.median(distances)) if tau is None else tau
    factors = clip_factors(distances, threshold)
    moved: Weights = (1.0 - factors.mean()) * v
    moved[:n] += factors / n
    return moved
