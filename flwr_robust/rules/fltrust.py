"""FLTrust: rows count as far as they point where the server's own update points."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.inner import cosines

# Cosines below this are rounding.
RIGHT_ANGLE = 1e-14


class FLTrust(Rule):
    r"""Mean of the rows, brought to the norm of the server's own update, weighted by their cosine to it.

    $$F(X) = \frac{1}{\sum_j w_j} \sum_{i=1}^{n} w_i \, \frac{\lVert r \rVert}{\lVert x_i \rVert} \, x_i, \quad
    w_i = \max(0, \cos(x_i, r))$$

    with r the root update, which the server computed on its own clean data. If all w_i are zero nobody is trusted, and
    the output is zero. Takes no f: one honest row is enough. Needs n >= 1 and a root update.

    Source: Cao, Fang, Liu and Gong, NDSS 2021, equations (2) to (4). FLPoison weighs all nodes alike where nobody is
    trusted, attackers included.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.FLTrust()(np.array([[4.0, 0.0], [0.0, 3.0], [-900.0, 0.0]]), root=np.array([2.0, 0.0]))
    array([2., 0.])
    """

    name = "fltrust"
    needs = Needs.DISTANCES
    takes_f = False
    requires = ("root",)
    measured = ("root",)
    requirement = "n >= 1, a root update"
    source = "FLTrust (2)-(4)"
    breakdown = "any share, if the root is clean"
    cost = "2"

    def __init__(self) -> None:
        super().__init__()

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        inner, root, n = rows.with_remembered().inner_from_origin, rows.place("root"), rows.count
        assert root is not None
        trust = np.maximum(cosines(inner)[root, :n], 0.0)
        trust[trust < RIGHT_ANGLE] = 0.0
        trusted, norms = trust > 0, np.sqrt(inner.diagonal())
        weights = np.zeros(n)
        weights[trusted] = trust[trusted] / trust.sum() * (norms[root] / norms[:n][trusted])
        return rows.combine(weights)
