"""The three-sigma test on distances: drop the rows that are unusually far from where they should be."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, Rows, lowest
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number
from flwr_robust.rules.inner import distances_from, mean_of
from flwr_robust.rules.multi_krum import krum_scores
from flwr_robust.rules.run import COLUMNS

# Values that differ by less than this share are equal.
EQUAL = 1e-12


class ThreeSigma(Rule):
    r"""Mean of the rows whose distance to a reference is at most the mean distance plus some standard deviations.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} x_i, \quad
    G = \{ i : s_i \le \bar{s} + \lambda \operatorname{std}(s) \}, \quad s_i = \lVert x_i - a \rVert$$

    with the sample standard deviation. The reference a is, in the first call, the mean of the
    ``max(1, ceil(n/2) - 1)`` rows with the least Krum scores over as many neighbours. Later it is zero: the paper
    compares the nodes' models with the mean of the accepted ones, and that is the model that nodes were sent. The row
    with the least distance stays in any case. Needs n >= 1.

    Source: Han et al., Kick Bad Guys Out!, 2023, second stage. Their code has 0.5 in spite of the name: with 3, no row
    can be out for n <= 10. FedML looks at the last weight tensor only.

    Parameters
    ----------
    sigmas : float
        Standard deviations above the mean that a distance may be.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.ThreeSigma()(np.array([[1.0], [2.0], [3.0], [900.0]]))
    array([2.])
    """

    name = "three-sigma"
    needs = Needs.DISTANCES
    takes_f = False
    remembers = ("calls", COLUMNS)
    requirement = "n >= 1"
    source = "Han et al., 2023"
    breakdown = "not proven"
    masked = True
    cost = "2"

    def __init__(self, sigmas: float = 0.5) -> None:
        super().__init__()
        self.sigmas = number(sigmas, "sigmas", "ThreeSigma", at_least=0)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        calls = int(rows.remembered.get("calls", 0))
        kept = ~outliers(rows.geometry, self.sigmas, first=calls == 0)
        rows.remember(calls=np.array(calls + 1))
        return rows.combine(mean_of(kept, rows.count))


def outliers(rows: Geometry, sigmas: float, *, first: bool) -> NDArray[np.bool_]:
    """Which rows are too far from the reference; never the nearest one.

    Parameters
    ----------
    rows : Geometry
        Distances are measured.
    sigmas : float
        Standard deviations above the mean that a distance may be.
    first : bool
        Whether the reference is made of the rows; else it is zero.
    """
    scores = _from_central_rows(rows) if first else rows.norms
    spread = float(np.std(scores, ddof=1)) if rows.count > 1 else 0.0
    limit = float(scores.mean()) + sigmas * spread
    out: NDArray[np.bool_] = scores > limit * (1 + EQUAL)
    out[lowest(scores, 1)] = False
    return out


def _from_central_rows(rows: Geometry) -> Weights:
    """Distances of the rows from the mean of those with the least Krum scores."""
    count = max(1, ceil(rows.count / 2) - 1)
    central = lowest(krum_scores(rows.squared_distances, count), count)
    return distances_from(rows.inner, mean_of(central, rows.count))
