"""Rules that sort each coordinate by itself: Median and TrimmedMean."""

from __future__ import annotations

from flwr_robust.devices import Block
from flwr_robust.rules.base import CoordinateRule, Weights


def _mean_of_sorted(block: Block, first: int, last: int, out: Weights) -> None:
    """Mean of the sorted values ``first:last`` of each column."""
    from flwr_robust import kernels

    kernels.of(block).mean_of_sorted(block, first, last, out)


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

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        """See `CoordinateRule.reduce`."""
        rows = len(block)
        _mean_of_sorted(block, (rows - 1) // 2, rows // 2 + 1, out)


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

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        """See `CoordinateRule.reduce`."""
        _mean_of_sorted(block, f, len(block) - f, out)
