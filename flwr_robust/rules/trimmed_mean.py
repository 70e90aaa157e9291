"""The coordinate-wise trimmed mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Block, Weights, mean_of_sorted
from flwr_robust.engine.rows import window_shares
from flwr_robust.rules.base import CoordinateRule


class TrimmedMean(CoordinateRule):
    r"""Coordinate-wise trimmed mean: drop the f smallest and the f largest values, average the rest.

    $$[F(X)]_k = \frac{1}{n - 2f} \sum_{i=f+1}^{n-f} [x]_{(i),k}$$

    with the values of each coordinate in ascending order. Needs n > 2f;
    kappa = 6f/(n - 2f) (1 + f/(n - 2f)).

    Source: NNM, section 8.1.1 and Proposition 2.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.TrimmedMean(f=1)(np.array([[1.0], [2.0], [4.0], [1000.0]]))
    array([3.])
    """

    name = "trimmed-mean"
    takes_tensors = True
    source = "NNM 8.1.1"
    breakdown = "1/2"
    cost = "1"

    def kappa(self, n: int, f: int) -> float | None:
        ratio = f / (n - 2 * f)
        return 6 * ratio * (1 + ratio)  # NNM, Proposition 2

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        mean_of_sorted(block, f, len(block) - f, out)

    def picks(self, block: NDArray[np.float64], f: int) -> Weights | None:
        return window_shares(block, f, len(block) - f)
