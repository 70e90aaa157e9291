"""The coordinate-wise median."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Block, FloatArray, Weights, mean_of_sorted
from flwr_robust.engine.rows import window_shares
from flwr_robust.rules.base import CoordinateRule


class Median(CoordinateRule):
    r"""Coordinate-wise median; for an even number of rows the mean of the middle two.

    $$[F(X)]_k = \operatorname{median}([x_1]_k, \ldots, [x_n]_k)$$

    Takes no f; tolerates any f < n/2 with
    kappa = 4 (1 + f/(n - 2f))^2.

    Source: NNM, section 8.1.4, equation (13) and Proposition 5.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.Median()(np.array([[1.0], [2.0], [1000.0]]))
    array([2.])
    """

    name = "median"
    takes_f = False
    takes_tensors = True
    requirement = "n >= 1 (n > 2f to tolerate f)"
    source = "NNM 8.1.4"
    breakdown = "1/2"
    cost = "1"

    def __init__(self) -> None:
        super().__init__()

    def kappa(self, n: int, f: int) -> float | None:
        return 4 * (1 + f / (n - 2 * f)) ** 2  # NNM, Proposition 5

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        rows = len(block)
        mean_of_sorted(block, (rows - 1) // 2, rows // 2 + 1, out)

    def picks(self, block: NDArray[np.float64], f: int) -> Weights | None:
        return window_shares(block, (len(block) - 1) // 2, len(block) // 2 + 1)


def column_medians(block: FloatArray, _: int) -> Weights:
    """Return the median of each column (columns,) of a block, which is left as it is."""
    medians = np.empty(block.shape[1])
    Median().reduce(block.copy(), 0, medians)
    return medians
