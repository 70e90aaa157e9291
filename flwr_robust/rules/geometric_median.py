"""The geometric median, found in n x n space: no iteration touches the data."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Geometry, Matrix, Needs, Weights
from flwr_robust.engine.passes import Rows
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.checks import norm_order, number, whole_number
from flwr_robust.rules.lp_median import lp_median
from flwr_robust.rules.median import Median

# Weights of a point near the rows add up to little more than one, in absolute terms.
FAR = 100.0


class GeometricMedian(LinearRule):
    r"""The point with the least sum of Euclidean distances to the rows.

    $$F(X) = \operatorname*{argmin}_y \sum_{i=1}^{n} \lVert y - x_i \rVert$$

    Found by Weiszfeld's iteration on the weights of the rows, started as
    Vardi and Zhang (2000) do and sped up by Newton's method; a median that is a row itself is
    recognised and returned exactly. Takes no f; tolerates any f < n/2 with
    kappa = 4 (1 + f/(n - 2f))^2. Where many points are medians (rows on one line, an even number of
    them) the result is one of them, and the midpoint if two rows tie.

    Source: NNM, section 8.1.3 and Proposition 4.

    Parameters
    ----------
    tol : float
        Stop when a step is shorter than this fraction of the rows' typical distance to the median.
    max_iterations : int
        Iterations at most; each costs n^2 and no pass over the data, or one pass where p is not 2.
    p : float
        Order of the norm of the distances, from 1 (the coordinate-wise median) and finite. For any but 1 and 2
        the sum of lp distances is minimised by reweighted means (`flwr_robust.rules.lp_median`).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.GeometricMedian()(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [90.0, 90.0]])).round(6)
    array([0.5, 0.5])
    """

    name = "geometric-median"
    takes_f = False
    requirement = "n >= 1 (n > 2f to tolerate f)"
    source = "NNM 8.1.3"
    breakdown = "1/2"
    cost = "2 (one a step for other norms)"

    def __init__(self, tol: float = 1e-6, max_iterations: int = 100, p: float = 2) -> None:
        super().__init__()
        self.tol = number(tol, "tol", "GeometricMedian", above=0)
        self.max_iterations: int = whole_number(max_iterations, "max_iterations", "GeometricMedian")
        self.p = norm_order(p, "GeometricMedian")
        if self.p == float("inf"):
            raise ValueError("GeometricMedian was given p = inf; give a finite order of at least 1.")

    @property
    def planned(self) -> bool:  # type: ignore[override]
        return self.p == 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Distances; for p = 1 each coordinate is on its own."""
        return Needs.NOTHING if self.p == 1 else Needs.DISTANCES

    def kappa(self, n: int, f: int) -> float | None:
        return 4 * (1 + f / (n - 2 * f)) ** 2 if self.p in (1, 2) else None  # NNM, Propositions 4 and 5

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        if self.p == 2:
            return super().aggregate(rows, f)
        if self.p == 1:
            return rows.reduce(lambda block, out: Median().reduce(block, f, out), tensors=True)
        start = rows.combine(self.weights(rows.geometry, f))
        rows.weights = None
        return lp_median(rows, start, self.p, self.tol, self.max_iterations)

    def weights(self, rows: Geometry, f: int) -> Weights:
        return median_weights(rows.squared_distances, rows.inner, self.tol, self.max_iterations)


def median_weights(squared_distances: Matrix, inner: Matrix, tol: float, max_iterations: int) -> Weights:
    """Weights (m,) of the rows in their geometric median.

    Parameters
    ----------
    squared_distances, inner : (m, m) float64 arrays
        Squared distances, and inner products relative to any one point.
    tol : float
        Relative step at which to stop.
    max_iterations : int
        Iterations at most.
    """
    # Rows that agree up to rounding are one point: the sum of distances has a kink there, not a slope.
    sizes = inner.diagonal()
    rounding = 64 * np.finfo(np.float64).eps * (sizes[:, None] + sizes[None, :])
    distances = np.sqrt(np.where(squared_distances <= rounding, 0.0, squared_distances))
    sums = distances.sum(axis=1)
    medoids = np.flatnonzero(sums <= sums.min() * (1 + 1e-12))
    weights = np.zeros(len(sums))
    weights[medoids] = 1.0 / len(medoids)
    medoid = int(medoids[0])
    if distances[medoid, medoids].max() == 0.0:
        weights = _leave_row(weights, medoid, distances, inner)
        if weights[medoid] == 1.0:
            return weights
    for _ in range(max_iterations):
        step = _step(weights, inner)
        if step is None:
            break
        weights, moved = step
        if moved <= tol**2:
            break
    return weights


def _leave_row(weights: Weights, row: int, distances: Matrix, inner: Matrix) -> Weights:
    """Take the best row as the median if it is one, else step off it downhill (Vardi and Zhang, 2000)."""
    here: Weights = np.eye(len(distances))[row]
    twins = distances[row] == 0.0
    pull = np.zeros(len(distances))
    pull[~twins] = 1.0 / distances[row, ~twins]
    total = pull.sum()
    if total == 0.0:
        return here
    # sum_i (x_i - x_row) / d_i as weights of the rows: its norm is the pull of the others.
    force = pull.copy()
    force[row] -= total
    strength = max(float(force @ inner @ force), 0.0) ** 0.5
    if strength <= twins.sum():
        return here
    stay = float(twins.sum()) / strength
    off: Weights = stay * here + (1.0 - stay) * pull / total
    return off


def _step(weights: Weights, inner: Matrix) -> tuple[Weights, float] | None:
    """Better of a Newton and a Weiszfeld step, and its squared length over the typical squared distance.

    None where neither lowers the sum of distances: rounding is reached.
    """
    distances = _distances_to(weights, inner)
    typical = float(np.median(distances))
    if typical == 0.0:
        return None
    # Relative to the data's own scale, so that the result scales with the rows.
    closeness = 1.0 / np.maximum(distances, 1e-12 * typical)
    weiszfeld = closeness / closeness.sum()
    now = float(distances.sum())
    # Close to the median the sum is flat: a step that is as good up to rounding still brings us nearer.
    level = 4 * np.finfo(np.float64).eps * now
    newton = _newton(weights, inner, closeness)
    sum_weiszfeld, sum_newton = (float(_distances_to(w, inner).sum()) for w in (weiszfeld, newton))
    if sum_newton <= min(now, sum_weiszfeld) + level:
        chosen = newton
    elif sum_weiszfeld < now:
        chosen = weiszfeld
    else:
        return None
    change = chosen - weights
    return chosen, max(float(change @ inner @ change), 0.0) / typical**2


def _distances_to(weights: Weights, inner: Matrix) -> Weights:
    """Distance of each row to ``weights @ rows``."""
    products = inner @ weights
    squares: Weights = inner.diagonal() - 2.0 * products + weights @ products
    distances: Weights = np.sqrt(np.maximum(squares, 0.0))
    return distances


def _newton(weights: Weights, inner: Matrix, closeness: Weights) -> Weights:
    """Newton step from ``y = weights @ rows``, by the Woodbury identity in n x n space.

    With ``v_i = y - x_i`` and ``e_i = 1 / ||v_i||`` the gradient is ``V e`` and the Hessian
    ``s I - V diag(e^3) V^T``, ``s = sum e_i``; the step is ``V q`` with
    ``q = -(e + (s diag(e^-3) - K)^-1 K e) / s`` and ``K = V^T V``.
    """
    products = inner @ weights
    between = inner - products[:, None] - products[None, :] + weights @ products
    total = closeness.sum()
    system = total * np.diag(closeness**-3) - between
    try:
        q = -(closeness + np.linalg.solve(system, between @ closeness)) / total
    except np.linalg.LinAlgError:
        # Rows on one line: the sum of distances is not curved along it, so there is no Newton step.
        return weights
    step: Weights = (1.0 + q.sum()) * weights - q
    # Where the sum is nearly straight the step goes far astray, and its distances drown in rounding.
    return step if np.abs(step).sum() <= FAR else weights
