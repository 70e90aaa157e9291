"""Replies that hostile nodes, broken libraries and bad lines send: mutations of an honest reply.

`ARRAYS`, `RECORDS` and `ENVELOPES` can never be used, `LEGAL` can, and `FLIPS` are random: what becomes of them
`decoded` tells, which reads a reply with NumPy's own reader and shares no code with the package.
"""

from __future__ import annotations

from tests.strategies.hostile.arrays import ARRAYS
from tests.strategies.hostile.node import (
    DTYPES,
    EXPLODED,
    FLOATS,
    SHAPES,
    Arrays,
    Node,
    Rng,
    draw_arrays,
    header,
    honest_metrics,
    pick,
    raw,
    to_npy,
    with_header,
)
from tests.strategies.hostile.reader import decoded
from tests.strategies.hostile.replies import ENVELOPES, FLIPS, LEGAL, RECORDS, draw, poison

__all__ = [
    "ARRAYS",
    "DTYPES",
    "ENVELOPES",
    "EXPLODED",
    "FLIPS",
    "FLOATS",
    "LEGAL",
    "RECORDS",
    "SHAPES",
    "Arrays",
    "Node",
    "Rng",
    "decoded",
    "draw",
    "draw_arrays",
    "header",
    "honest_metrics",
    "pick",
    "poison",
    "raw",
    "to_npy",
    "with_header",
]
