"""Adaptive robust clipping: ARC."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, clip_factors
from flwr_robust.rules.base import PreAggregation
from flwr_robust.rules.run import Trace


def clip(rows: Geometry, threshold: float, trace: Trace) -> Geometry:
    """Scale each row to at most this norm (in the rows' units): ``min(1, C / ||x||) x`` (ARC, section 3)."""
    factors = clip_factors(rows.norms, threshold)
    earlier = trace.clip_factors
    # Behind Bucketing rows are no longer nodes.
    trace.clip_factors = factors if earlier is None or len(earlier) != len(factors) else factors * earlier
    trace.threshold = threshold * rows.unit
    return rows.scale(factors)


class ARC(PreAggregation):
    r"""Adaptive robust clipping: clip the ``k = floor(2 (f/n) (n - f))`` longest rows to the next norm.

    $$y_i = \min\left(1, \frac{C}{\lVert x_i \rVert}\right) x_i, \quad
    k = \left\lfloor 2 \, \frac{f}{n} \, (n - f) \right\rfloor$$

    The threshold C is the (k+1)-th largest norm of the rows. Needs n > 2f; a rule with coefficient
    kappa keeps kappa + 2f/(n - 2f).

    Source: ARC, Algorithm 2 and Theorem 3.2.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.ARC(f=1)(np.array([[1.0], [-2.0], [500.0]]))
    array([[ 1.],
           [-2.],
           [ 2.]])
    """

    name = "arc"
    needs = Needs.NORMS
    clips = True
    source = "ARC Alg. 2"
    breakdown = "the rule's"
    cost = "1, shared with the chain"

    def kappa_after(self, kappa: float, n: int, f: int) -> float | None:
        return kappa + 2 * f / (n - 2 * f)  # ARC, Theorem 3.2

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        m = rows.count
        # In whole numbers: 2 * (f / n) * (n - f) in floats can fall just short of one.
        k = 2 * f * (m - f) // m
        return clip(rows, float(np.sort(rows.norms)[m - 1 - k]), trace)
