"""AutoGM: a weighted geometric median whose weights go to the rows that are near it."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.geometric_median import median_weights
from flwr_robust.rules.inner import distances_from, mean_of

# Of the weighted geometric medians: their square is what may be left to gain.
TOL, MAX_ITERATIONS = 1e-6, 200


class AutoGM(LinearRule):
    r"""Auto-weighted geometric median: rows that are far from it lose their weight in it.

    $$F(X), a = \operatorname*{argmin}_{z, \, a \ge 0, \, \sum a_i = 1}
    \sum_{i=1}^{n} a_i \lVert x_i - z \rVert + \frac{\lambda}{2} \sum_{i=1}^{n} a_i^2$$

    minimised over z and over a in turns, from equal weights on: z is a weighted geometric median, and
    ``a_i = max(eta - ||x_i - z||, 0) / lambda`` with the eta for which they add up to one. Needs n >= 1.

    Source: Li, Ngai and Voigt, IEEE TII 2022; lambda is relative by default, where the paper's is absolute. Blades
    sorts pairs of index and distance by index, so that its eta is wrong.

    Parameters
    ----------
    lam : float, optional
        lambda: the larger, the more alike the weights. By default n times the median distance of the rows to their
        geometric median; if that is zero, the geometric median is the output.
    tol : float
        Stop where the objective changes by no more than this share of itself.
    max_iterations : int
        Turns at most; they take no pass over the data.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.AutoGM()(np.array([[1.0], [2.0], [3.0], [900.0]])).round(3)
    array([2.])
    """

    name = "autogm"
    needs = Needs.DISTANCES
    takes_f = False
    requirement = "n >= 1"
    source = "Li et al., 2022"
    breakdown = "not proven"
    cost = "2"

    def __init__(self, lam: float | None = None, tol: float = 1e-6, max_iterations: int = 100) -> None:
        super().__init__()
        self.lam = None if lam is None else number(lam, "lam", "AutoGM", above=0)
        self.tol = number(tol, "tol", "AutoGM", above=0)
        self.max_iterations: int = whole_number(max_iterations, "max_iterations", "AutoGM")

    def weights(self, rows: Geometry, f: int) -> Weights:
        a = np.full(rows.count, 1.0 / rows.count)
        z = _median(rows, a)
        distances = distances_from(rows.inner, z)
        lam = rows.count * float(np.median(distances)) if self.lam is None else self.lam / rows.unit
        objective = np.inf
        for _ in range(self.max_iterations if lam else 0):
            a = _water_level(distances, lam)
            z = _median(rows, a)
            distances = distances_from(rows.inner, z)
            before, objective = objective, float(a @ distances + lam / 2 * (a @ a))
            if abs(before - objective) <= self.tol * objective:
                break
        return z


def _median(rows: Geometry, masses: Weights) -> Weights:
    """Weights of the rows in their geometric median with these masses."""
    there = np.flatnonzero(masses)
    here, found = np.ix_(there, there), np.zeros(rows.count)
    found[there] = median_weights(
        rows.squared_distances[here], rows.inner[here], TOL, MAX_ITERATIONS, masses[there] / masses.max()
    )
    return found


def _water_level(distances: Weights, lam: float) -> Weights:
    """Return the weights that minimise the objective for these distances of the rows."""
    ordered = np.sort(distances)
    levels = (np.cumsum(ordered) + lam) / np.arange(1, len(ordered) + 1)
    above = np.flatnonzero(levels > ordered)
    if not above.size:
        # So small a lambda leaves the nearest rows alone.
        return mean_of(distances == ordered[0], len(distances))
    weights: Weights = np.maximum(levels[above[-1]] - distances, 0.0)
    weights /= weights.sum()
    return weights
