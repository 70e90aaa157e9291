"""Mean around the median: the values nearest to each coordinate's median, averaged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Block, Weights, mean_around_median
from flwr_robust.engine.rows import nearest_shares
from flwr_robust.rules.base import CoordinateRule


class MeaMed(CoordinateRule):
    r"""Mean around the median: per coordinate the mean of the n - f values nearest to the median.

    $$[F(X)]_k = \frac{1}{n - f} \sum_{i \in N_k} [x_i]_k$$

    where N_k are the n - f rows whose k-th values are nearest to the median of all. Of two values that are
    equally near, the lower one counts. Needs n > 2f.

    Source: NNM, section 15.1.3 (Xie et al., 2018).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import MeaMed
    >>> MeaMed(f=1)(np.array([[1.0], [2.0], [4.0], [1000.0]])).round(6)
    array([2.333333])
    """

    name = "meamed"
    takes_tensors = True
    source = "NNM 15.1.3"
    breakdown = "1/2"
    cost = "1"

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        mean_around_median(block, len(block) - f, out)

    def picks(self, block: NDArray[np.float64], f: int) -> Weights | None:
        return nearest_shares(block, len(block) - f)
