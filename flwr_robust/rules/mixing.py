"""Pre-aggregations that replace rows by means of rows: NNM and Bucketing."""

from __future__ import annotations

from typing import Any

import numpy as np

from flwr_robust.geometry import Geometry
from flwr_robust.rules.base import Needs, PreAggregation, Trace
from flwr_robust.rules.checks import check_positive
from flwr_robust.rules.randomness import Drawing, Draws
from flwr_robust.rules.ties import lowest


class NNM(PreAggregation):
    r"""Nearest-neighbour mixing: each row becomes the mean of its n - f nearest rows, itself included.

    $$y_i = \frac{1}{n - f} \sum_{j=1}^{n-f} x_{i:j}$$

    with ``x_{i:j}`` the j-th nearest row to ``x_i``; ties go
    to the lower index. Needs n > 2f; a rule with coefficient kappa gets 8f/(n - f) (kappa + 1).

    Source: NNM, Algorithm 2, equation (1) and Lemma 1.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.NNM(f=1)(np.array([[0.0], [2.0], [10.0]]))
    array([[1.],
           [1.],
           [6.]])
    """

    name = "nnm"
    needs = Needs.DISTANCES
    mixes = True
    source = "NNM Alg. 2"
    breakdown = "the rule's"
    cost = "1, shared with the chain"

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """See `PreAggregation.transform`."""
        m = rows.rows
        distances = rows.squared_distances.copy()
        # The row itself comes first, also among its duplicates.
        np.fill_diagonal(distances, -1.0)
        mixing = np.zeros((m, m))
        for row in range(m):
            mixing[row, lowest(distances[row], m - f)] = 1.0 / (m - f)
        return rows.mix(mixing)


class Bucketing(Drawing, PreAggregation):
    r"""Means of random buckets of s rows: ``(n, d) -> (ceil(n/s), d)``.

    $$y_b = \frac{1}{|B_b|} \sum_{i \in B_b} x_i$$

    A random permutation of the rows is cut into buckets of s; the last may be smaller, and each is
    averaged over the rows that it holds. The rules behind it keep their f while n shrinks.

    Source: NNM, sections 10 and 14.1 (Karimireddy et al., 2022).

    Parameters
    ----------
    s : int, optional
        Rows a bucket; by default ``max(1, floor(n / (2f)))``, and 1 for f = 0.
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
        self.s = None if s is None else check_positive(s, "s", "Bucketing", whole=True)
        self.draws = Draws(seed, "Bucketing")

    @property
    def uses_f(self) -> bool:
        """See `Stage.uses_f`."""
        return self.s is None

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        given = {"s": self.s} if self.s is not None else {"f": self.f}
        return given if self.draws.seed is None else given | {"seed": self.draws.seed}

    def least_rows(self, f: int) -> int:
        """See `Stage.least_rows`."""
        return 1

    def bucket_size(self, rows: int, f: int) -> int:
        """Rows a bucket."""
        if self.s is not None:
            return int(self.s)
        return max(1, rows // (2 * f)) if f else 1

    def rows_after(self, rows: int, f: int) -> int:
        """See `PreAggregation.rows_after`."""
        return -(-rows // self.bucket_size(rows, f))

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """See `PreAggregation.transform`."""
        m = rows.rows
        size = self.bucket_size(m, f)
        order = self.draws.generator.permutation(m)
        mixing = np.zeros((self.rows_after(m, f), m))
        for bucket in range(len(mixing)):
            members = order[bucket * size : (bucket + 1) * size]
            mixing[bucket, members] = 1.0 / len(members)
        trace.drawn.append(f"Bucketing: {order.tolist()} in buckets of {size}")
        return rows.mix(mixing)
