"""Clipping to a fixed norm: StaticClipping."""

from __future__ import annotations

from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules.arc import clip
from flwr_robust.rules.base import PreAggregation
from flwr_robust.rules.checks import number
from flwr_robust.rules.run import Trace


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
    clips = True
    takes_f = False
    requirement = "n >= 1"
    source = "ARC 3"
    breakdown = "none kept (ARC 3.1)"
    cost = "1, shared with the chain"

    def __init__(self, max_norm: float) -> None:
        super().__init__()
        self.max_norm = number(max_norm, "max_norm", "StaticClipping", above=0)

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        return clip(rows, self.max_norm / rows.unit, trace)
