"""FoolsGold: nodes whose updates add up to the same direction share their say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Matrix, Weights
from flwr_robust.engine.passes import LARGEST_UNIT, SMALLEST_UNIT, keep_largest, zeros
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Layer
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import name_of_layer, number
from flwr_robust.rules.histories import PLACES, History, write
from flwr_robust.rules.inner import cosines
from flwr_robust.rules.layers import columns_of
from flwr_robust.rules.run import COLUMNS

# Weights below this are rounding.
NOTHING = 1e-12


class FoolsGold(Rule):
    r"""Mean of the rows, weighted by how unlike a node's updates so far are to those of any other node.

    $$F(X) = \frac{\sum_i a_i x_i}{\sum_i a_i}, \quad
    a_i = \operatorname{logit}\left(1 - \max_{j \ne i} \cos(H_i, H_j)\right) + \frac{1}{2} \text{, cut to } [0, 1]$$

    with H_i the sum of all updates of node i. Before that, similarities are pardoned: where the largest one ``v_j`` of
    node j is above ``v_i``, ``cos(H_i, H_j)`` is multiplied by ``v_i / v_j``; and the ``1 - max`` are divided by the
    largest of them. Where every node is a twin of another one the output is zero. Against sybils, any number of which
    count as one; honest nodes that agree lose their say as well. One vector is remembered for each node that has been
    there, in the dtype of the rows: as much as the replies of the latest 1,000 nodes. Needs n >= 1.

    Source: Fung, Yoon and Beschastnikh, RAID 2020, Algorithm 1, without its feature importance. FedML and FLPoison know
    nodes by position, so that nodes that come and go are mixed up; the original divides by zero where all are twins.

    Parameters
    ----------
    confidence : float
        What the logit is multiplied by.
    layer : str, optional
        Compare the updates of this layer only; it alone is remembered. By default all.
    normalise : bool
        Whether the weights are divided by their sum, which the paper does not do.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.FoolsGold()(np.array([[1.0, 0.0], [0.0, 3.0], [-5.0, -5.0], [-5.0, -5.0]]))
    array([0.5, 1.5])
    """

    name = "foolsgold"
    takes_f = False
    optional = ("ids",)
    remembers = (*PLACES, "sums", COLUMNS)
    requirement = "n >= 1"
    source = "FoolsGold Alg. 1"
    breakdown = "not proven"
    masked = True
    cost = "2, and one to remember"

    def __init__(self, confidence: float = 1.0, layer: str | None = None, normalise: bool = True) -> None:
        super().__init__()
        self.confidence = number(confidence, "confidence", "FoolsGold", above=0)
        if not isinstance(normalise, bool):
            raise ValueError(f"FoolsGold was given normalise = {normalise!r}; give True or False.")
        self.layer, self.normalise = name_of_layer(layer, "layer", "FoolsGold"), normalise

    def require_layers(self, layers: Sequence[Layer]) -> None:
        columns_of(layers, self.layer, "FoolsGold")

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        columns = columns_of(rows.layers, self.layer, "FoolsGold")
        history = History(rows.remembered, rows.names)
        start, stop = columns or (0, rows.d)
        sums = history.resized(rows.remembered.get("sums"), (stop - start,), rows.dtype)
        so_far = _Sums(rows, sums, history.places, columns)
        weights = _weights(cosines(so_far.inner()), self.confidence)
        total = float(weights.sum())
        vector = rows.combine(weights / total if self.normalise and total else weights)
        if not self.normalise:
            largest = np.finfo(vector.dtype).max
            np.clip(vector, -largest, largest, out=vector)
        rows.defer(so_far.grow)
        rows.hand_over(sums=sums, **history.remembered())
        return vector


class _Sums:
    """Sums of the nodes' updates: those before this call, which are remembered, and this call's rows.

    Parameters
    ----------
    rows : Rows
        This call's.
    sums : (k, columns) array
        Of the nodes before this call.
    places : (m,) int64 array
        Where the rows' nodes are among them.
    columns : (start, stop), optional
        Which columns are summed up; by default all.
    """

    def __init__(
        self, rows: Rows, sums: FloatArray, places: NDArray[np.int64], columns: tuple[int, int] | None
    ) -> None:
        self.rows, self.sums, self.places, self.columns = rows, sums, places, columns
        self.first = columns[0] if columns else 0

    def inner(self) -> Matrix:
        """(m, m) inner products of the nodes' sums, in some unit."""
        unit, m = self._unit(), self.rows.count

        def add(block: FloatArray, start: int, inner: Matrix) -> None:
            total = self._total(block, start) / unit
            inner += total @ total.T

        return self.rows.scan(add, zeros(m, m), dtype=np.float64, columns=self.columns)

    def grow(self) -> None:
        """Add the rows to the sums."""
        # The columns of a block are those of the model, the sums' those of the layer.
        write(self.rows, self.sums, self.places, more=lambda here: self.sums[self.places, here], columns=self.columns)

    def _total(self, block: FloatArray, start: int) -> FloatArray:
        """Return the sums in the columns of a block."""
        here = slice(start - self.first, start - self.first + block.shape[1])
        total: FloatArray = block + self.sums[self.places, here]
        return total

    def _unit(self) -> float:
        """Return what sums are divided by before they are squared: no float32 value has a square beyond float64."""
        if self.rows.dtype == np.float32:
            return 1.0

        def keep(block: FloatArray, start: int, largest: NDArray[np.float64]) -> None:
            largest[0] = max(largest[0], np.abs(self._total(block, start)).max(initial=0.0))

        largest = self.rows.scan(keep, zeros(1), keep_largest, dtype=np.float64, columns=self.columns)
        return min(max(float(largest[0]), SMALLEST_UNIT), LARGEST_UNIT)


def _weights(similarity: Matrix, confidence: float) -> Weights:
    """Return how much each row counts, given the cosines of the nodes' sums: from 0 to 1."""
    similar = similarity.copy()
    np.fill_diagonal(similar, 0.0)
    most = np.maximum(similar.max(axis=1), 0.0)
    pardoned = most[None, :] > most[:, None]
    similar = np.where(pardoned, similar * most[:, None] / np.where(pardoned, most[None, :], 1.0), similar)
    unlike = np.clip(1.0 - np.maximum(similar.max(axis=1), 0.0), 0.0, 1.0)
    unlike[unlike < NOTHING] = 0.0
    unlike /= unlike.max() or 1.0
    with np.errstate(divide="ignore"):
        weights: Weights = np.clip(confidence * (np.log(unlike / (1.0 - unlike)) + 0.5), 0.0, 1.0)
    return weights
