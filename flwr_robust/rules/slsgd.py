"""SLSGD: the trimmed mean, and a moving average between old and new model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Block, Weights
from flwr_robust.rules.checks import number
from flwr_robust.rules.trimmed_mean import TrimmedMean


class SLSGD(TrimmedMean):
    r"""A share of the coordinate-wise trimmed mean: the moving average between the old and the new model.

    $$[F(X)]_k = \frac{\alpha}{n - 2f} \sum_{i=f+1}^{n-f} [x]_{(i),k}$$

    with the values of each coordinate in ascending order; in models this is ``(1 - alpha) old + alpha new``. Needs
    n > 2f.

    Source: Xie, Koyejo and Gupta, ECML PKDD 2019; for alpha = 1 the coefficient of `TrimmedMean`. FedML trims whole
    nodes by their number of examples, which is no trimmed mean.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    alpha : float
        Weight of the new model, in (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.SLSGD(f=1, alpha=0.5)(np.array([[1.0], [2.0], [4.0], [1000.0]]))
    array([1.5])
    """

    name = "slsgd"
    source = "SLSGD"

    def __init__(self, f: int | float = 0, alpha: float = 0.8) -> None:
        super().__init__(f)
        self.alpha = number(alpha, "alpha", "SLSGD", above=0, at_most=1)

    def kappa(self, n: int, f: int) -> float | None:
        return super().kappa(n, f) if self.alpha == 1 else None

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        super().reduce(block, f, out)
        out *= self.alpha

    def picks(self, block: NDArray[np.float64], f: int) -> Weights | None:
        found = super().picks(block, f)
        return None if found is None else found * self.alpha
