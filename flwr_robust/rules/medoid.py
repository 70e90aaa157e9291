"""The medoid: the row that the others are nearest to."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import Weights
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, lowest
from flwr_robust.rules.base import LinearRule
from flwr_robust.rules.inner import mean_of


class Medoid(LinearRule):
    r"""The row with the least sum of distances to the others.

    $$F(X) = x_k, \quad k \in \operatorname*{argmin}_j \sum_{i=1}^{n} \lVert x_j - x_i \rVert$$

    Distances are not squared; ties go to the lowest index. Takes no f. Needs n >= 1.

    Source: Xie, Koyejo and Gupta, Generalized Byzantine-tolerant SGD, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.Medoid()(np.array([[0.0], [1.0], [3.0], [1000.0]]))
    array([1.])
    """

    name = "medoid"
    needs = Needs.DISTANCES
    takes_f = False
    requirement = "n >= 1"
    source = "Xie et al., 2018"
    breakdown = "1/2"
    cost = "2"

    def __init__(self) -> None:
        super().__init__()

    def weights(self, rows: Geometry, f: int) -> Weights:
        distances = np.sqrt(rows.squared_distances)
        best = int(distances.sum(axis=1).argmin())
        # Sums beside the best one's: what makes honest rows different would drown in the distance of a row far away.
        inner, sizes = rows.inner, rows.inner.diagonal()
        squares = sizes[:, None] - sizes[best] - 2.0 * (inner - inner[best])
        lengths = distances + distances[best]
        more = np.divide(squares, lengths, out=np.zeros_like(squares), where=lengths > 0).sum(axis=1)
        # Above zero, so that a tie is one of the sums themselves.
        typical = float(np.median(distances[best]))
        return mean_of(lowest(more - more.min() + rows.count * typical, 1), rows.count)
