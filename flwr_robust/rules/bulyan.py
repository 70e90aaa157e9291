"""Bulyan: choose rows one by one, then average around the median of each coordinate."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray, Matrix, Weights, mean_around_median
from flwr_robust.engine.lp import distances_of, distances_to
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, Rows, lowest, nearest_shares
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import norm_order
from flwr_robust.rules.geometric_median import median_weights
from flwr_robust.rules.median import column_medians
from flwr_robust.rules.multi_krum import krum_scores

SELECTIONS = ("krum", "mean", "median", "geometric-median", "multi-krum")


class Bulyan(Rule):
    r"""Choose theta = n - 2f rows one by one, then average around the median.

    $$[F(X)]_k = \frac{1}{\theta - 2f} \sum_{i \in N_k} [x_i]_k, \quad \theta = n - 2f$$

    where N_k are the theta - 2f chosen rows whose k-th values are nearest to the median of the chosen.

    Selection: on the k rows that remain, Krum with max(1, k - f - 1) neighbours, or the row nearest to
    their mean, coordinate-wise median or geometric median; the row is moved to the chosen ones.
    ``"multi-krum"``, which is what Flower does, chooses theta rows at once: those with the least Krum scores,
    with max(1, n - f - 2) neighbours. Needs n >= 4f + 3.

    Source: MixTailor, section 5 (El Mhamdi et al., 2018).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    selection : str
        ``"krum"``, ``"mean"``, ``"median"``, ``"geometric-median"`` or ``"multi-krum"``.
    p : float
        Order of the norm of the distances. ``"median"``, and any other p than 2 with ``"mean"`` or
        ``"geometric-median"``, takes a pass over the data for each chosen row.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import Bulyan
    >>> Bulyan(f=1)(np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [900.0]]))
    array([3.])
    """

    name = "bulyan"
    requirement = "n >= 4f + 3"
    source = "MixTailor 5"
    breakdown = "1/4"
    cost = "2 (one a row for the median selection)"

    def __init__(self, f: int | float = 0, selection: str = "krum", p: float = 2) -> None:
        super().__init__(f)
        if selection not in SELECTIONS:
            raise ValueError(f"Bulyan was given selection = {selection!r}; choose from {', '.join(SELECTIONS)}.")
        self.selection = selection
        self.p = norm_order(p, "Bulyan")

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Distances, unless those of another norm are measured on the mixed rows."""
        plain = self.selection != "median" and (self.p == 2 or self.selection == "geometric-median")
        return Needs.DISTANCES if plain else Needs.NOTHING

    def least_rows(self, f: int) -> int:
        return 4 * f + 3

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        theta = rows.count - 2 * f
        chosen = self._choose(rows, f, theta)
        select = np.eye(rows.count)[sorted(chosen)]
        keep = theta - 2 * f
        return rows.reduce(
            lambda block, out: mean_around_median(block, keep, out),
            select,
            tensors=True,
            shares=lambda block: nearest_shares(block, keep),
        )

    def _choose(self, rows: Rows, f: int, theta: int) -> list[int]:
        far = distances_of(rows, self.p) if "krum" in self.selection and self.p != 2 else None
        if self.selection == "multi-krum":
            scores = krum_scores(_or_euclidean(far, rows), max(1, rows.count - f - 2))
            return lowest(scores, theta)
        left, chosen = list(range(rows.count)), []
        for _ in range(theta):
            scores = self._scores(rows, far, left, f)
            chosen.append(left.pop(lowest(scores, 1)[0]))
        return chosen

    def _scores(self, rows: Rows, far: Matrix | None, left: list[int], f: int) -> Weights:
        """Return what the next row is chosen by, for the rows that are left: the lowest wins."""
        here = np.ix_(left, left)
        if self.selection == "krum":
            return krum_scores(_or_euclidean(far, rows)[here], max(1, len(left) - f - 1))
        if self.selection == "median":
            return distances_to(rows, column_medians, self.p, left)
        weights = self._centre(rows.geometry, left)
        if self.p == 2:
            inner = rows.geometry.inner[here]
            products = inner @ weights
            squares: Weights = inner.diagonal() - 2.0 * products + weights @ products
            return np.maximum(squares, 0.0)
        return distances_to(rows, lambda block, start: weights @ block, self.p, left)

    def _centre(self, geometry: Geometry, left: list[int]) -> Weights:
        """Weights of the rows that are left in their mean or geometric median."""
        if self.selection == "mean":
            return np.full(len(left), 1.0 / len(left))
        here = np.ix_(left, left)
        return median_weights(geometry.squared_distances[here], geometry.inner[here], 1e-6, 100)


def _or_euclidean(far: Matrix | None, rows: Rows) -> Matrix:
    return rows.geometry.squared_distances if far is None else far
