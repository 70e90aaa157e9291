"""Means of random buckets: Bucketing."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.geometry import Geometry
from flwr_robust.rules.base import PreAggregation
from flwr_robust.rules.checks import whole_number
from flwr_robust.rules.randomness import Random
from flwr_robust.rules.run import Trace


class Bucketing(Random, PreAggregation):
    r"""Means of random buckets of s rows: ``(n, d) -> (ceil(n/s), d)``.

    $$y_b = \frac{1}{|B_b|} \sum_{i \in B_b} x_i$$

    A random permutation of the rows is cut into buckets of s; the last may be smaller, and each is
    averaged over the rows that it holds. The rules behind it keep their f while n shrinks.

    Source: NNM, sections 10 and 14.1 (Karimireddy et al., 2022).

    Parameters
    ----------
    s : int, optional
        Rows in a bucket; by default as many as leave more than 2f buckets, and 1 for f = 0. (The papers'
        ``floor(n / (2f))`` leaves exactly 2f of them where it divides n.)
    f : int or float, optional
        Rows that may be malicious (by default none); only used where s is not given.
    seed : int, optional
        Seed of the permutations; by default from the operating system.
    """

    name = "bucketing"
    mixes = True
    requirement = "n >= 1"
    source = "NNM 10, 14.1"
    breakdown = "the rule's / s"
    cost = "0"

    def __init__(self, s: int | None = None, f: int | float | None = None, seed: int | None = None) -> None:
        super().__init__(0 if f is None else f)
        self.s: int | None = whole_number(s, "s", "Bucketing", or_none=True)
        self.seed = whole_number(seed, "seed", "Bucketing", at_least=0, or_none=True)

    @property
    def uses_f(self) -> bool:
        return self.s is None

    def least_rows(self, f: int) -> int:
        return 1

    def bucket_size(self, rows: int, f: int) -> int:
        """Rows a bucket."""
        if self.s is not None:
            return self.s
        # The largest that leaves more than 2f buckets: ceil(rows / s) > 2f where s < rows / (2f).
        return max(1, -(-rows // (2 * f)) - 1) if f else 1

    def rows_after(self, rows: int, f: int) -> int:
        return -(-rows // self.bucket_size(rows, f))

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        m = rows.count
        size = self.bucket_size(m, f)
        order = trace.generator(self).permutation(m)
        mixing = np.zeros((self.rows_after(m, f), m))
        for bucket in range(len(mixing)):
            members = order[bucket * size : (bucket + 1) * size]
            mixing[bucket, members] = 1.0 / len(members)
        trace.drawn.append(f"Bucketing: {order.tolist()} in buckets of {size}")
        return rows.mix(mixing)
