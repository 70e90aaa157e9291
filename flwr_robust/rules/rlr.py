"""Robust learning rate: where too few rows agree on a sign, the step is turned round."""

from __future__ import annotations

from math import ceil

import numpy as np

from flwr_robust.engine.device import Block, Weights, mean_of_sorted
from flwr_robust.engine.kernels.columns import sum_of_signs
from flwr_robust.rules.base import CoordinateRule
from flwr_robust.rules.checks import number


class RLR(CoordinateRule):
    r"""Robust learning rate: the mean, with its sign turned where too few rows agree on one.

    $$[F(X)]_k = \pm \frac{1}{n} \sum_{i=1}^{n} [x_i]_k, \quad
    \text{minus where } \left| \sum_{i=1}^{n} \operatorname{sign} [x_i]_k \right| < \theta$$

    with ``sign(0) = 0``. Against backdoors, whose coordinates few nodes push; the size of a malicious row is not
    bounded: put `StaticClipping` or `ARC` before it. Needs n > 2f, and n >= threshold.

    Source: Ozdayi, Kantarcioglu and Gel, AAAI 2021.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    threshold : float, optional
        Least sum of signs that counts as agreement; by default f + 1 (the paper: from K + 1 to n - K for K attackers).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.RLR(f=1)(np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 6.0]]))
    array([ 1., -2.])
    """

    name = "rlr"
    takes_tensors = True
    source = "RLR"
    breakdown = "not proven"
    masked = True
    cost = "1"

    def __init__(self, f: int | float = 0, threshold: float | None = None) -> None:
        super().__init__(f)
        self.threshold = None if threshold is None else number(threshold, "threshold", "RLR", above=0)

    @property
    def requirement(self) -> str:  # type: ignore[override]
        """What the number of rows must be."""
        return "n > 2f" if self.threshold is None else f"n > 2f and n >= threshold = {self.threshold:g}"

    def least_rows(self, f: int) -> int:
        return max(2 * f + 1, ceil(self.threshold or 0))

    def reduce(self, block: Block, f: int, out: Weights) -> None:
        mean_of_sorted(block, 0, len(block), out)
        signs = np.zeros(out.size, np.int64)
        if isinstance(block, np.ndarray):
            sum_of_signs(block, signs)
        else:
            signs += block.sign().sum(dim=0).long().cpu().numpy()
        threshold = f + 1 if self.threshold is None else self.threshold
        np.negative(out, out=out, where=np.abs(signs) < threshold)
