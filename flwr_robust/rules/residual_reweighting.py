"""Residual-based reweighting: how far a row's values are from a line through the sorted values of each column."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray, Weights
from flwr_robust.engine.kernels import columns as kernels
from flwr_robust.engine.passes import nothing_to_merge, zeros
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number

# Scores of no more than this a column are rounding.
NOTHING = 1e-12


class ResidualReweighting(Rule):
    r"""Weighted mean of the rows, by how near their values are to a line through each column's sorted values.

    $$F(X) = \frac{\sum_i W_i^2 \tilde{x}_i}{\sum_i W_i^2}, \quad
    W_i = \sum_k w_{ik} \operatorname{std}_j(w_{jk}), \quad
    w_{ik} = \min\left(1, \lambda \sqrt{\tfrac{2}{n}} \, \frac{h_{ik} \tau_k}{|e_{ik}|}\right)$$

    The line is the repeated median's: through the median, with the slope ``median_i median_j`` of those between values
    and their ranks; e are the residuals, h their leverages, tau 1.4826 (1 + 5/(n - 1)) times the median of the absolute
    residuals but the smallest one. Where tau is zero (up to 1e-13 of the column's largest value; the authors add 1e-7),
    w is 1 for residuals of zero, and 0 for others. A value with w below the threshold is moved to the line. Where all W
    are zero all rows count alike. Each column costs n^2 steps, so that this takes far longer than other rules; the
    slopes are kept for the second pass, one number a column. Needs n >= 3.

    Source: Fu, Xie, Li and Chen, 2019, and the authors' code. FedML has their three variants (median, Theil-Sen,
    Gaussian weights), not the method itself.

    Parameters
    ----------
    lam : float
        lambda: the larger, the farther a value may be from the line.
    threshold : float
        Weight below which a value is moved to the line, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.ResidualReweighting()(np.array([[1.0, 1.0], [2.0, 2.0], [3.1, 3.0], [4.0, 4.2], [900.0, 900.0]])).round(2)
    array([2.53, 2.55])
    """

    name = "residual-reweighting"
    takes_f = False
    requirement = "n >= 3"
    source = "Fu et al., 2019"
    breakdown = "not proven"
    cost = "2, of n^2 steps a column"

    def __init__(self, lam: float = 2.0, threshold: float = 0.1) -> None:
        super().__init__()
        self.lam = number(lam, "lam", "ResidualReweighting", above=0)
        self.threshold = number(threshold, "threshold", "ResidualReweighting", at_least=0, at_most=1)

    def least_rows(self, f: int) -> int:
        return 3

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        slopes, vector = np.empty(rows.d, rows.dtype), np.empty(rows.d, rows.dtype)

        def score(block: FloatArray, start: int, scores: Weights) -> None:
            kernels.score_residuals(block, self.lam, slopes[start : start + block.shape[1]], scores)

        # Mixed rows are made twice, and have to come out alike.
        scores = rows.scan(score, zeros(rows.count), dtype=np.float64)
        shares = _shares(scores, rows.d)

        def average(block: FloatArray, start: int, _: None) -> None:
            here, result = slice(start, start + block.shape[1]), np.empty(block.shape[1])
            kernels.mean_of_corrected(block, self.lam, self.threshold, slopes[here], shares, result)
            vector[here] = result

        rows.scan(average, lambda _: None, nothing_to_merge, dtype=np.float64)
        return vector


def _shares(scores: Weights, d: int) -> Weights:
    """Return the rows' shares in the mean: squares of their scores."""
    most = float(scores.max())
    if most <= NOTHING * d:
        return np.full(len(scores), 1.0 / len(scores))
    squares = (scores / most) ** 2
    shares: Weights = squares / squares.sum()
    return shares
