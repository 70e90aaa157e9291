"""Centered clipping: the last output, moved by the clipped differences of the rows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flwr_robust.geometry import Matrix
from flwr_robust.rows import Rows
from flwr_robust.rules.base import Needs, Rule, State, Weights
from flwr_robust.rules.checks import check_positive
from flwr_robust.rules.clipping import clip_factors
from flwr_robust.updates import FloatArray


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
    requirement = "n >= 1 (n > 2f to tolerate f)"
    source = "LPA (56)-(58)"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, tau: float | None = None, iterations: int = 1) -> None:
        super().__init__()
        self.tau = None if tau is None else check_positive(tau, "tau", "CenteredClipping")
        self.iterations = check_positive(iterations, "iterations", "CenteredClipping", whole=True)
        self._centre: FloatArray | None = None

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        given = {} if self.tau is None else {"tau": self.tau}
        return given if self.iterations == 1 else given | {"iterations": self.iterations}

    def reset(self) -> None:
        """Start at zero again."""
        self._centre = None

    def state(self) -> State:
        """See `Stage.state`."""
        # A copy: the rule goes on in place.
        return {} if self._centre is None else {"centre": self._centre.copy()}

    def undo(self) -> Callable[[], None]:
        """See `Stage.undo`: nothing has changed where a call raises."""
        return lambda: None

    def load_state(self, state: State) -> None:
        """See `Stage.load_state`."""
        if state.keys() - {"centre"}:
            raise ValueError(f"{self!r} was given the state {sorted(state)}; load the state of the same chain.")
        centre = state.get("centre")
        self._centre = None if centre is None else centre.copy()

    def anchors(self, d: int) -> Sequence[FloatArray]:
        """See `Rule.anchors`: the last output, if it is of this model's size."""
        return () if self._centre is None or self._centre.size != d else (self._centre,)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        points = rows.with_anchors()
        # Inner products relative to zero, where v starts; the anchor, if any, is the last point.
        inner = points.inner_from_origin
        v = np.zeros(len(inner))
        if rows.anchors:
            v[-1] = 1.0
        tau = None if self.tau is None else self.tau / points.unit
        for _ in range(self.iterations):
            v = _step(v, inner, rows.count, tau)
        vector = rows.combine(v)
        self._remember(vector)
        return vector

    def _remember(self, vector: FloatArray) -> None:
        """Keep a copy, in the memory of the last one: no more than one model is taken, as far as that will do."""
        if self._centre is None or self._centre.shape != vector.shape or self._centre.dtype != vector.dtype:
            self._centre = vector.copy()
        else:
            self._centre[:] = vector


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
