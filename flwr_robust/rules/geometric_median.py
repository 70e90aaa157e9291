"""The geometric median, found in n x n space: no iteration touches the data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flwr_robust.engine.device import FloatArray, Matrix, Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, Rows
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.checks import norm_order, number, whole_number
from flwr_robust.rules.inner import ROUNDING, relative
from flwr_robust.rules.lp_median import lp_median
from flwr_robust.rules.median import Median

# In typical distances, one after the other.
# No further: a Gram matrix does not tell distances apart that are below 1e-8 of what it holds.
SMOOTHINGS = (0.1, 1e-4, 1e-7)
# Rows that are nearer than this, in typical distances, without being one: which way they pull is not exactly known.
NEAR = 1e-4
# Keeps Newton's system from being singular where the sum is straight, as between rows on one line.
RIDGE = 1e-11
# A line search is over where the slope is between these shares of what it was, with opposite signs.
UP, DOWN, LONGEST = 0.5, 0.9, 1e6


class GeometricMedian(LinearRule):
    r"""The point with the least sum of Euclidean distances to the rows.

    $$F(X) = \operatorname*{argmin}_y \sum_{i=1}^{n} \lVert y - x_i \rVert$$

    Found by Newton's method on the weights of the rows, for sums of smoothed distances
    ``sqrt(||y - x_i||^2 + mu^2)`` with ever smaller mu, until the gradient vanishes: rows that coincide, or nearly so,
    do not hold it. A median that is a row itself, with no others close by, is returned exactly. Takes no f; tolerates
    any f < n/2 with kappa = 4 (1 + f/(n - 2f))^2. Where many points are medians (rows on one line, an even number of
    them) the result is one of them, and the midpoint if two rows tie.

    Source: NNM, section 8.1.3 and Proposition 4.

    Parameters
    ----------
    tol : float
        Stop where no more than its square, as a share of the sum of distances, is left to gain.
    max_iterations : int
        Iterations at most, each of which costs n^3; where p is not 2, passes over the data at most.
    p : float
        Order of the norm of the distances, from 1 (the coordinate-wise median) and finite. For any but 1 and 2
        the sum of lp distances is minimised by Newton's method over the data (`flwr_robust.rules.lp_median`): a step
        takes two passes or more. Orders near 1, and beyond 10, may need more than the default's hundred.

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
    cost = "2 (two a step for other norms)"

    def __init__(self, tol: float = 1e-6, max_iterations: int = 100, p: float = 2) -> None:
        super().__init__()
        self.tol = number(tol, "tol", "GeometricMedian", above=0)
        self.max_iterations: int = whole_number(max_iterations, "max_iterations", "GeometricMedian")
        self.p = norm_order(p, "GeometricMedian")
        if self.p == float("inf"):
            raise ValueError("GeometricMedian was given p = inf; give a finite order of at least 1.")

    @property
    def planned(self) -> bool:  # type: ignore[override]
        """Whether the norm is Euclidean: others take steps over the data."""
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


def median_weights(
    squared_distances: Matrix, inner: Matrix, tol: float, max_iterations: int, masses: Weights | None = None
) -> Weights:
    """Weights (m,) of the rows in their geometric median, or in a weighted one.

    Parameters
    ----------
    squared_distances, inner : (m, m) float64 arrays
        Squared distances, and inner products relative to any one point.
    tol : float
        Its square is how much of the sum of distances may be left to gain.
    max_iterations : int
        Iterations at most.
    masses : (m,) array, optional
        How often each row's distance counts, above 0; by default once.
    """
    masses = np.ones(len(inner)) if masses is None else masses
    sizes = inner.diagonal()
    # Rows that agree up to rounding are one point.
    alike = squared_distances <= ROUNDING * (sizes[:, None] + sizes[None, :])
    distances = np.sqrt(np.where(alike, 0.0, squared_distances))
    # How close half of the rows are to each. Sums of distances would not see what is small beside a row far away.
    half = np.partition(distances, len(sizes) // 2, axis=1)[:, len(sizes) // 2]
    typical = float(half.min())
    central = (half <= typical * (1 + 1e-12)) / 1.0
    start: Weights = central / central.sum()
    search = _Search(inner, start, typical, masses)
    steps = 0
    for share in SMOOTHINGS if typical else ():
        enough = masses.sum() * typical * max(tol**2, min(1e-3, share**2))
        while steps < max_iterations:
            steps += 1
            if search.step(share * typical) <= enough:
                break
        row = search.row_that_is_the_median(distances, NEAR * typical)
        if row is not None:
            return row
    return search.weights


class _Search:
    """Newton's method for the sum of smoothed distances ``sqrt(||y - x_i||^2 + mu^2)``, on weights of the rows.

    Only slopes are compared, never the sums themselves: what makes honest rows different would drown in the distance
    of a row that is far away.

    Parameters
    ----------
    inner : (m, m) float64 array
        Inner products of the rows, relative to any point.
    start : (m,) float64 array
        Weights of a point in the midst of the rows: all is measured from there.
    typical : float
        Distance of half of the rows from each other.
    masses : (m,) float64 array
        How often each row's distance counts.
    """

    def __init__(self, inner: Matrix, start: Weights, typical: float, masses: Weights) -> None:
        self.start, self.inner, self.masses = start, relative(inner, start), masses
        self.nothing = masses.sum() * typical * np.finfo(np.float64).eps ** 2
        closeness = masses / np.sqrt(self.inner.diagonal() + typical**2) if typical else np.zeros(len(start))
        # One of Weiszfeld's steps, away from the row or rows where the search begins.
        self.y: Weights = closeness / closeness.sum() if typical else closeness

    @property
    def weights(self) -> Weights:
        """Weights of the rows in the point that was found, which add up to one."""
        found: Weights = (1.0 - self.y.sum()) * self.start + self.y
        return found

    def _closeness(self, products: Weights, square: float, smoothing: float) -> Weights:
        """Mass over the smoothed distance of each row from a point with these inner products and this square."""
        squares = np.maximum(self.inner.diagonal() - 2.0 * products + square, 0.0)
        closeness: Weights = self.masses / np.sqrt(squares + smoothing**2)
        return closeness

    def step(self, smoothing: float) -> float:
        """Move along Newton's direction to where the sum hardly falls any more.

        Returns
        -------
        How steeply it fell at first: twice what there was left to gain, near the minimum.
        """
        y, products = self.y, self.inner @ self.y
        direction = self._newton(products, smoothing)
        along = self.inner @ direction

        def slope(length: float) -> float:
            moved, reached = y + length * direction, products + length * along
            closeness = self._closeness(reached, float(moved @ reached), smoothing)
            return float(closeness.sum() * (moved @ along) - closeness @ along)

        first = slope(0.0)
        if -first > self.nothing:
            length = _line_search(slope, -first)
            moved, reached = y + length * direction, products + length * along
            # One of Weiszfeld's steps more: the sum does not rise, and weights of no sign but plus cannot add up noise.
            closeness = self._closeness(reached, float(moved @ reached), smoothing)
            self.y = closeness / closeness.sum()
        return -first

    def _newton(self, products: Weights, smoothing: float) -> Weights:
        """Newton's direction, by the Woodbury identity among m numbers.

        With ``v_i = y - x_i`` and ``e_i`` its mass w_i over its smoothed length the gradient is ``V e`` and the Hessian
        ``s I - V diag(e^3 / w^2) V^T``, ``s = sum e_i``; the direction is ``V q`` with
        ``q = -(e + R (s I - R K R)^-1 R K e) / s``, ``K = V^T V`` and ``R = diag(e^(3/2) / w)``, which keeps rows of
        any size apart: no eigenvalue of the system is above s or below zero.
        """
        square = float(self.y @ products)
        closeness = self._closeness(products, square, smoothing)
        total, roots = closeness.sum(), closeness**1.5 / self.masses
        between = self.inner - products[:, None] - products[None, :] + square
        system = -roots[:, None] * between * roots[None, :]
        system[np.diag_indices_from(system)] += total * (1.0 + RIDGE)
        # Least squares where rounding leaves it singular: rows on one line, seen from far away.
        solved = _solve(system, roots * (between @ closeness))
        q = -(closeness + roots * solved) / total
        direction: Weights = q.sum() * self.y - q
        return direction

    def row_that_is_the_median(self, distances: Matrix, near: float) -> Weights | None:
        """Weights of the nearest row, if the others do not pull stronger than it holds (Vardi and Zhang, 2000).

        None where others are near without being one with it: rounding hides where these pull.
        """
        products = self.inner @ self.y
        row = int(np.argmin(self.inner.diagonal() - 2.0 * products))
        twins = distances[row] == 0.0
        if ((distances[row] < near) & ~twins).any():
            return None
        pull = np.where(twins, 0.0, self.masses / np.where(twins, 1.0, distances[row]))
        # sum_i (x_i - x_row) / d_i as weights of the rows: its norm is the pull of the others.
        pull[row] -= pull.sum()
        strength = max(float(pull @ self.inner @ pull), 0.0) ** 0.5
        here: Weights = np.eye(len(distances))[row]
        # Where the two are equal there are other medians too, and the search finds one in their midst.
        return here if strength < self.masses[twins].sum() * (1 - 1e-12) else None


def _line_search(slope: Callable[[float], float], first: float) -> float:
    """Return a length at which a slope that begins at ``-first`` and never falls has become small."""
    low, high, length = 0.0, 0.0, 1.0
    for _ in range(60):
        now = slope(length)
        if now > UP * first:
            high = length
        elif now < -DOWN * first and not high and length < LONGEST:
            low, length = length, 4.0 * length
            continue
        else:
            break
        length = (low + high) / 2.0
    return length


def _solve(system: Matrix, right: Weights) -> Weights:
    try:
        solved: Weights = np.asarray(np.linalg.solve(system, right), dtype=np.float64)
    except np.linalg.LinAlgError:
        solved = np.asarray(np.linalg.lstsq(system, right, rcond=None)[0], dtype=np.float64)
    return solved
