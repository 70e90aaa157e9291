"""SignGuard: filter by norm and by the shares of signs, clip, average."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Needs, Weights, clip_factors
from flwr_robust.engine.kernels import signs
from flwr_robust.engine.passes import zeros
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.mean_shift import bandwidth_of, mean_shift
from flwr_robust.rules.randomness import Random


class SignGuard(Random, Rule):
    r"""Mean of the rows, clipped to the median norm, whose norm and signs are like those of most.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} \min\left(1, \frac{M}{\lVert x_i \rVert}\right) x_i, \quad
    M = \operatorname{median}_j \lVert x_j \rVert$$

    Kept are rows with a norm within [lower, upper] times the median norm, and rows in the largest cluster
    (MeanShift) of their shares of positive, zero and negative values in a random window of the columns.
    Where no row passes both filters, the norm's alone counts. Needs n >= 3.

    Source: LASA, section 5 (Xu et al., 2022).

    Parameters
    ----------
    lower : float
        Least norm that passes, in median norms.
    upper : float
        Largest norm that passes, in median norms.
    fraction : float
        Share of the columns whose signs are looked at, in (0, 1].
    seed : int, optional
        Seed of the windows; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import SignGuard
    >>> SignGuard(fraction=1.0)(np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]))
    array([1., 1.])
    """

    name = "signguard"
    needs = Needs.NORMS
    takes_f = False
    requirement = "n >= 3"
    source = "LASA 5"
    breakdown = "1/2"
    cost = "2, and a tenth of the columns"

    def __init__(self, lower: float = 0.1, upper: float = 3.0, fraction: float = 0.1, seed: int | None = None) -> None:
        super().__init__()
        self.lower = number(lower, "lower", "SignGuard", above=0)
        self.upper = number(upper, "upper", "SignGuard", above=0)
        self.fraction = number(fraction, "fraction", "SignGuard", above=0, at_most=1)
        if not self.lower <= 1.0 <= self.upper:
            raise ValueError(
                f"SignGuard was given lower = {lower} and upper = {upper}; give lower <= 1 <= upper, so that "
                "the median norm itself passes."
            )
        self.seed = whole_number(seed, "seed", "SignGuard", at_least=0, or_none=True)

    def least_rows(self, f: int) -> int:
        return 3

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        norms = rows.geometry.norms
        median = float(np.median(norms))
        usual = (norms >= self.lower * median) & (norms <= self.upper * median)
        kept = usual & _largest_cluster(self._shares(rows))
        if not kept.any():
            # At least one row has the median norm, or two around it lie within the bounds or far apart.
            kept = usual if usual.any() else np.ones(rows.count, dtype=bool)
        factors = clip_factors(norms, median)
        weights: Weights = np.where(kept, factors, 0.0) / kept.sum()
        return rows.combine(weights)

    def _shares(self, rows: Rows) -> NDArray[np.float64]:
        """(m, 3) shares of positive, zero and negative values in a random window of the columns."""
        width = max(1, ceil(self.fraction * rows.d)) if rows.d else 0
        start = int(rows.generator().integers(rows.d - width + 1))
        count = lambda block, _, counts: signs.count_signs(block, counts)  # noqa: E731
        found = rows.scan(count, zeros(rows.count, 3, dtype=np.int64), columns=(start, start + width))
        shares: NDArray[np.float64] = found / max(width, 1)
        return shares


def _largest_cluster(features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows are in the largest MeanShift cluster; of equally large ones, in that of the lowest row."""
    # Of three rows, half would be one: each row's distance to itself.
    bandwidth = bandwidth_of(features, quantile=max(0.5, 2.0 / len(features)))
    if bandwidth < 1e-12:
        # Every row agrees with others to rounding: the largest group that does is the cluster.
        _, labels = np.unique(features.round(12), axis=0, return_inverse=True)
    else:
        labels = mean_shift(features, bandwidth)
    labels = np.ravel(labels)
    sizes = np.bincount(labels)
    first = next(label for label in labels if sizes[label] == sizes.max())
    members: NDArray[np.bool_] = labels == first
    return members
