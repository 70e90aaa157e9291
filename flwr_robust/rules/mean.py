"""The arithmetic mean: no protection, and the yardstick of the others."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import Weights
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.base import LinearRule


class Mean(LinearRule):
    r"""Mean of the rows.

    $$F(X) = \frac{1}{n} \sum_{i=1}^{n} x_i$$

    Tolerates no arbitrary row, but LPA shows that under label poisoning alone, with very
    heterogeneous data, its error is of the optimal order. Needs n >= 1.

    Source: LPA, equation (5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.Mean()(np.array([[1.0, 2.0], [3.0, 6.0]]))
    array([2., 4.])
    """

    name = "mean"
    takes_f = False
    requirement = "n >= 1"
    source = "LPA (5)"
    breakdown = "0"
    tolerates = False
    cost = "1"

    def __init__(self) -> None:
        super().__init__()

    def kappa(self, n: int, f: int) -> float | None:
        return 0.0 if f == 0 else None

    def weights(self, rows: Geometry, f: int) -> Weights:
        return np.full(rows.count, 1.0 / rows.count)
