"""Divide and conquer: drop the rows that stand out along the direction in which the rows differ most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rows import Rows
from flwr_robust.rules.base import Rule, Weights
from flwr_robust.rules.checks import check_positive
from flwr_robust.rules.randomness import Drawing, Draws
from flwr_robust.rules.ties import lowest
from flwr_robust.updates import FloatArray


class DnC(Drawing, Rule):
    r"""Mean of the rows that no iteration drops as outliers of a random sample of the columns.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} x_i, \quad s_i = \langle x_i - \bar{x}, v \rangle^2$$

    where v is the top right singular vector of the centred rows, and G are the rows without the highest s_i.
    Each iteration centres `subsample` random columns, projects the rows on the top right singular vector and
    drops the ``floor(filter_fraction f)`` rows with the highest squared projections. Rows that no iteration
    drops are averaged; if there is none, those with the lowest summed projections. Needs n > 2f.

    Source: LASA, section 5 (Shejwalkar and Houmansadr, 2021).

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    iterations : int
        Samples of columns.
    subsample : int
        Columns in a sample; all of them where there are fewer.
    filter_fraction : float
        Rows to drop an iteration, in multiples of f.
    seed : int, optional
        Seed of the samples; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import DnC
    >>> DnC(f=1)(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [90.0, 90.0]]))
    array([2., 0.])
    """

    name = "dnc"
    source = "LASA 5"
    breakdown = "not proven"
    cost = "1, and 10,000 columns"

    def __init__(
        self,
        f: int | float = 0,
        iterations: int = 1,
        subsample: int = 10000,
        filter_fraction: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(f)
        self.iterations = check_positive(iterations, "iterations", "DnC", whole=True)
        self.subsample = check_positive(subsample, "subsample", "DnC", whole=True)
        self.filter_fraction = check_positive(filter_fraction, "filter_fraction", "DnC")
        self.draws = Draws(seed, "DnC")

    @property
    def requirement(self) -> str:  # type: ignore[override]
        """What the number of rows must be."""
        return "n > 2f" if self.filter_fraction <= 2 else f"n > {self.filter_fraction:g} f"

    def least_rows(self, f: int) -> int:
        """See `Stage.least_rows`."""
        return max(2 * f + 1, self._dropped(f) + 1)

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        defaults = {"iterations": 1, "subsample": 10000, "filter_fraction": 1.0}
        given = {"f": self.f} | {k: getattr(self, k) for k, value in defaults.items() if getattr(self, k) != value}
        return given if self.draws.seed is None else given | {"seed": self.draws.seed}

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        keep = rows.count - self._dropped(f)
        good, total, unit = np.ones(rows.count, dtype=bool), np.zeros(rows.count), 0.0
        for _ in range(self.iterations if rows.d and keep < rows.count else 0):
            scores, largest = outlier_scores(rows.take(self._sample(rows.d)))
            unit = unit or largest
            total += scores * (largest / unit) ** 2 if unit else 0.0
            here = np.zeros(rows.count, dtype=bool)
            here[lowest(scores, keep)] = True
            good &= here
        if not good.any():
            good[lowest(total, keep)] = True
        weights: Weights = good / good.sum()
        return rows.combine(weights)

    def _dropped(self, f: int) -> int:
        return int(self.filter_fraction * f + 1e-9)

    def _sample(self, d: int) -> NDArray[np.int64]:
        if d <= self.subsample:
            return np.arange(d)
        drawn: NDArray[np.int64] = self.draws.generator.choice(d, self.subsample, replace=False, shuffle=False)
        return np.sort(drawn)


def outlier_scores(columns: NDArray[np.float64]) -> tuple[Weights, float]:
    """Squared projections of the centred rows of an (m, s) array on its top right singular vector.

    Returns
    -------
    The (m,) projections relative to the square of the largest absolute value, which no square can then
    overflow; and that value.
    """
    largest = float(np.abs(columns).max(initial=0.0))
    centred = columns / (largest or 1.0)
    centred -= centred.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    scores: Weights = max(float(values[-1]), 0.0) * vectors[:, -1] ** 2
    return scores, largest
