"""A filter of rows that are nearly alike: SimilarityFilter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.base import PreAggregation
from flwr_robust.rules.checks import number
from flwr_robust.rules.inner import cosines
from flwr_robust.rules.run import Trace

# Values that differ by less than this are equal.
EQUAL = 1e-12


class SimilarityFilter(PreAggregation):
    r"""Leave out all rows that are nearly alike, as colluding nodes' are: ``(n, d) -> (n', d)``.

    $$i \sim j \iff \cos(x_i, x_j) \ge c \text{ and }
    \left| \lVert x_i \rVert - \lVert x_j \rVert \right| \le \nu \max(\lVert x_i \rVert, \lVert x_j \rVert)$$

    Two zero rows are alike, too. Rows that are alike to another one are left out, all of them; if that is everybody,
    nobody is. It leaves out honest rows that agree as well, and an attacker who copies one honest node removes both.
    Rules behind it keep their f, and need as many rows as without it. Needs n >= 1.

    Source: the filter that MixTailor, appendix A.4, supposes; the numbers are ours.

    Parameters
    ----------
    cosine : float
        c, in [-1, 1].
    norm : float
        nu, how far two norms may differ, relative to the larger one.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.SimilarityFilter()(np.array([[1.0, 2.0], [-5.0, 5.0], [3.0, 1.0], [-5.0, 5.0]]))
    array([[1., 2.],
           [3., 1.]])
    """

    name = "similarity-filter"
    needs = Needs.DISTANCES
    takes_f = False
    requirement = "n >= 1"
    source = "MixTailor A.4"
    breakdown = "the rule's"
    cost = "1, shared with the chain"

    def __init__(self, cosine: float = 0.999, norm: float = 0.01) -> None:
        super().__init__()
        self.cosine = number(cosine, "cosine", "SimilarityFilter", at_least=-1, at_most=1)
        self.norm = number(norm, "norm", "SimilarityFilter", at_least=0)

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        kept = np.flatnonzero(~self._alike(rows).any(axis=1)).tolist() or list(range(rows.count))
        earlier = range(rows.count) if trace.kept is None else trace.kept
        trace.kept = [earlier[row] for row in kept]
        return rows.chosen(kept)

    def _alike(self, rows: Geometry) -> NDArray[np.bool_]:
        """Which pairs of different rows are alike, (m, m)."""
        inner = rows.inner_from_origin
        norms = np.sqrt(inner.diagonal())
        larger = np.maximum(norms[:, None], norms[None, :])
        close = np.abs(norms[:, None] - norms[None, :]) <= (self.norm + EQUAL) * larger
        alike: NDArray[np.bool_] = close & ((cosines(inner) >= self.cosine - EQUAL) | (larger == 0.0))
        np.fill_diagonal(alike, False)
        return alike
