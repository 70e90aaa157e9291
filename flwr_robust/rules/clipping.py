"""Pre-aggregations that shorten long rows: ARC and StaticClipping."""

from __future__ import annotations

from typing import Any

import numpy as np

from flwr_robust.geometry import Geometry
from flwr_robust.rules.base import Needs, PreAggregation, Trace, Weights
from flwr_robust.rules.checks import check_positive


def clip_factors(norms: Weights, threshold: float) -> Weights:
    """Return ``min(1, C / ||x||)`` for each norm (ARC, section 3)."""
    factors = np.ones(len(norms))
    long = norms > threshold
    factors[long] = threshold / norms[long]
    return factors


def clip(rows: Geometry, threshold: float, trace: Trace) -> Geometry:
    """Scale each row to at most this norm (in the rows' units): ``min(1, C / ||x||) x`` (ARC, section 3)."""
    factors = clip_factors(rows.norms, threshold)
    trace.threshold = threshold * rows.unit
    trace.clip_factors = factors if trace.clip_factors is None else factors * _of_as_many(trace, factors)
    return rows.scale(factors)


def _of_as_many(trace: Trace, factors: Any) -> Any:
    """Earlier factors, if they belong to as many rows: behind Bucketing rows are no longer nodes."""
    earlier = trace.clip_factors
    return earlier if earlier is not None and len(earlier) == len(factors) else 1.0


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
    source = "ARC Alg. 2"
    breakdown = "the rule's"
    cost = "1, shared with the chain"

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """See `PreAggregation.transform`."""
        m = rows.rows
        # In whole numbers: 2 * (f / n) * (n - f) in floats can fall just short of one.
        k = 2 * f * (m - f) // m
        return clip(rows, float(np.sort(rows.norms)[m - 1 - k]), trace)


class StaticClipping(PreAggregation):
    r"""Clip each row to a fixed norm C.

    $$y_i = \min\left(1, \frac{C}{\lVert x_i \rVert}\right) x_i$$

    Needs n >= 1. No fixed threshold keeps a rule robust (ARC, Lemma 3.1): prefer `ARC`.

    Source: ARC, section 3.

    Parameters
    ----------
    max_norm : float
        C, the largest norm that a row may keep, above 0.
    """

    name = "static-clipping"
    needs = Needs.NORMS
    takes_f = False
    requirement = "n >= 1"
    source = "ARC 3"
    breakdown = "none kept (ARC 3.1)"
    cost = "1, shared with the chain"

    def __init__(self, max_norm: float) -> None:
        super().__init__()
        self.max_norm = check_positive(max_norm, "max_norm", "StaticClipping")

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        return {"max_norm": self.max_norm}

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """See `PreAggregation.transform`."""
        return clip(rows, self.max_norm / rows.unit, trace)
