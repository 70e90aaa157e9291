"""Auror: rows that are in the minority in most of the columns that tell rows apart are out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.kernels import columns as kernels
from flwr_robust.engine.passes import nothing_to_merge, zeros
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Layer
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import name_of_layer, number, whole_number
from flwr_robust.rules.inner import mean_of
from flwr_robust.rules.layers import columns_of
from flwr_robust.rules.run import COLUMNS


class Auror(Rule):
    r"""Mean of the rows that are not in the smaller of two clusters in most of the indicative columns.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} x_i, \quad
    G = \left\{ i : \left| \{ k \in I : i \in S_k \} \right| \le s \, |I| \right\}$$

    with S_k the smaller of the two clusters that exact 2-means makes of the numbers in column k (none where both are as
    large), and I the indicative columns: those whose centres are farther apart than `threshold`, found anew in the
    first `rounds` calls and then kept. Which they are is remembered, one byte a column. Needs n >= 1.

    Source: Shen, Tople and Saxena, ACSAC 2016; they tune the threshold on trusted runs. FLPoison drops the votes, and
    runs one KMeans on all indicative columns.

    Parameters
    ----------
    threshold : float, optional
        How far apart the centres of an indicative column are, at least; by default the median over the columns, and
        above 0.
    rounds : int
        Calls in which the indicative columns are found anew.
    share : float
        s, of the indicative columns in which a row may be in the minority, in [0.5, 1).
    layer : str, optional
        Look at the columns of this layer only; by default at all.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.Auror()(np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0], [900.0, 7.0]]))
    array([2., 7.])
    """

    name = "auror"
    takes_f = False
    remembers = ("indicative", "calls", COLUMNS)
    requirement = "n >= 1"
    source = "Auror"
    breakdown = "not proven"
    masked = True
    cost = "3"

    def __init__(
        self, threshold: float | None = None, rounds: int = 10, share: float = 0.5, layer: str | None = None
    ) -> None:
        super().__init__()
        self.threshold = None if threshold is None else number(threshold, "threshold", "Auror", above=0)
        self.rounds: int = whole_number(rounds, "rounds", "Auror")
        self.share = number(share, "share", "Auror", at_least=0.5, below=1)
        self.layer = name_of_layer(layer, "layer", "Auror")

    def require_layers(self, layers: Sequence[Layer]) -> None:
        columns_of(layers, self.layer, "Auror")

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        columns = columns_of(rows.layers, self.layer, "Auror")
        calls, indicative = int(rows.remembered.get("calls", 0)), rows.remembered.get("indicative")
        if indicative is None or calls < self.rounds:
            indicative = self._find(rows, columns)
        first = columns[0] if columns else 0

        def vote(block: FloatArray, start: int, votes: NDArray[np.int64]) -> None:
            kernels.vote(block, indicative[start - first : start - first + block.shape[1]], votes)

        votes = rows.scan(vote, zeros(rows.count, dtype=np.int64), dtype=np.float64, columns=columns)
        rows.hand_over(indicative=indicative, calls=np.array(calls + 1))
        return rows.combine(mean_of(votes <= self.share * np.count_nonzero(indicative), rows.count))

    def _find(self, rows: Rows, columns: tuple[int, int] | None) -> NDArray[np.bool_]:
        """Which columns are indicative."""
        first, last = columns or (0, rows.d)
        apart = np.empty(last - first, rows.dtype)

        def measure(block: FloatArray, start: int, _: None) -> None:
            kernels.distances_of_centres(block, apart[start - first : start - first + block.shape[1]])

        rows.scan(measure, lambda _: None, nothing_to_merge, dtype=np.float64, columns=columns)
        if self.threshold is not None:
            return apart > self.threshold
        least = float(np.median(apart)) if apart.size else 0.0
        found: NDArray[np.bool_] = (apart >= least) & (apart > 0.0)
        return found
