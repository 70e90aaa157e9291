"""Bulyan: choose rows one by one, then average around the median of each coordinate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from flwr_robust.geometry import Geometry, Matrix
from flwr_robust.passes import BlockReader
from flwr_robust.rows import Rows
from flwr_robust.rules.base import Needs, Rule, Weights
from flwr_robust.rules.checks import check_norm_order
from flwr_robust.rules.coordinatewise import Median
from flwr_robust.rules.geometric_median import median_weights
from flwr_robust.rules.krum import krum_scores
from flwr_robust.rules.meamed import mean_around_median
from flwr_robust.rules.ties import lowest
from flwr_robust.updates import FloatArray, Updates

SELECTIONS = ("krum", "mean", "median", "geometric-median")
Candidate = Callable[[FloatArray, Weights], None]


class Bulyan(Rule):
    r"""Choose theta = n - 2f rows one by one, then average around the median.

    $$[F(X)]_k = \frac{1}{\theta - 2f} \sum_{i \in N_k} [x_i]_k, \quad \theta = n - 2f$$

    where N_k are the theta - 2f chosen rows whose k-th values are nearest to the median of the chosen.

    Selection: on the k rows that remain, Krum with max(1, k - f - 1) neighbours, or the row nearest to
    their mean, coordinate-wise median or geometric median; the row is moved to the chosen ones.
    Needs n >= 4f + 3.

    Source: MixTailor, section 5 (El Mhamdi et al., 2018).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    selection : str
        ``"krum"``, ``"mean"``, ``"median"`` or ``"geometric-median"``.
    p : float
        Order of the norm of the distances. ``"median"``, and any other p than 2 with a selection other than
        ``"krum"``, takes a pass over the data for each chosen row.

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
        self.p = check_norm_order(p, "Bulyan")

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Distances, unless the engine measures those of another norm itself."""
        plain = self.selection != "median" and (self.p == 2 or self.selection == "geometric-median")
        return Needs.DISTANCES if plain else Needs.NOTHING

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        given: dict[str, Any] = {"f": self.f}
        if self.selection != "krum":
            given["selection"] = self.selection
        return given if self.p == 2 else given | {"p": self.p}

    def least_rows(self, f: int) -> int:
        """See `Stage.least_rows`."""
        return 4 * f + 3

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        theta = rows.count - 2 * f
        chosen = self._choose(rows, f, theta)
        select = np.eye(rows.count)[sorted(chosen)]
        keep = theta - 2 * f
        return rows.reduce(lambda block, out: mean_around_median(block, keep, out), select, tensors=True)

    def _choose(self, rows: Rows, f: int, theta: int) -> list[int]:
        far = rows.lp_distances(self.p) if self.selection == "krum" and self.p != 2 else None
        left, chosen = list(range(rows.count)), []
        for _ in range(theta):
            scores = self._scores(rows, far, left, f)
            chosen.append(left.pop(lowest(scores, 1)[0]))
        return chosen

    def _scores(self, rows: Rows, far: Matrix | None, left: list[int], f: int) -> Weights:
        """Return what the next row is chosen by, for the rows that are left: the lowest wins."""
        here = np.ix_(left, left)
        if self.selection == "krum":
            distances = rows.geometry.squared_distances if far is None else far
            return krum_scores(distances[here], max(1, len(left) - f - 1))
        if self.selection == "median":
            return _distances_to(rows, left, self.p, lambda block, out: Median().reduce(block, 0, out))
        weights = self._centre(rows.geometry, left)
        if self.p == 2:
            inner = rows.geometry.inner[here]
            products = inner @ weights
            squares: Weights = inner.diagonal() - 2.0 * products + weights @ products
            return np.maximum(squares, 0.0)
        return _distances_to(rows, left, self.p, lambda block, out: np.copyto(out, weights @ block))

    def _centre(self, geometry: Geometry, left: list[int]) -> Weights:
        """Weights of the rows that are left in their mean or geometric median."""
        if self.selection == "mean":
            return np.full(len(left), 1.0 / len(left))
        here = np.ix_(left, left)
        return median_weights(geometry.squared_distances[here], geometry.inner[here], 1e-6, 100)


def _distances_to(rows: Rows, left: list[int], p: float, candidate: Candidate) -> Weights:
    """Return the lp distance of each row that is left to a candidate made of them; one pass."""
    readers = rows.scan(partial(_ToCandidate, left=left, p=p, candidate=candidate), dtype=np.float64)
    scale: Weights = np.max([reader.scales for reader in readers], axis=0)
    if np.isinf(p):
        return scale
    safe = np.where(scale > 0, scale, 1.0)
    sums = np.sum([reader.sums * (reader.scales / safe) ** p for reader in readers], axis=0)
    distances: Weights = scale * sums ** (1 / p)
    return distances


class _ToCandidate(BlockReader):
    def __init__(
        self, updates: Updates, width: int, *, left: list[int], p: float, candidate: Candidate, **options: Any
    ) -> None:
        super().__init__(updates, width, **options)
        self.left, self.p, self.candidate = left, p, candidate
        self.scales, self.sums = np.zeros(len(left)), np.zeros(len(left))

    def use(self, start: int, stop: int, block: FloatArray) -> None:
        """See `BlockReader.use`."""
        from flwr_robust import kernels

        mine = block[self.left]
        centre = np.empty(stop - start)
        self.candidate(mine.copy(), centre)
        kernels.add_lp_powers_to(mine, centre, self.p, self.scales, self.sums)
