"""Divide and conquer: drop the rows that stand out along the direction in which the rows differ most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray, Weights
from flwr_robust.engine.rows import Rows, lowest
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.randomness import Random


class DnC(Random, Rule):
    r"""Mean of the rows that no iteration drops as outliers of a random sample of the columns.

    $$F(X) = \frac{1}{|G|} \sum_{i \in G} x_i, \quad s_i = \langle x_i - \bar{x}, v \rangle^2$$

    where v is the top right singular vector of the centred rows, and G are the rows without the highest s_i.
    Each iteration centres `subsample` random columns, projects the rows on the top right singular vector and
    drops the ``floor(filter_fraction f)`` rows with the highest squared projections. Rows that no iteration
    drops are averaged; if there is none, those with the lowest summed projections. Needs n > 2f.

    One row far away takes the singular vector for itself, and hides others that are large: on its own this rule falls
    to one row at 10^6 times the honest ones' size beside two at 10^4, in half of the rounds. `ARC` or `StaticClipping`
    in front prevents it.

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
    masked = True
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
        self.iterations: int = whole_number(iterations, "iterations", "DnC")
        self.subsample: int = whole_number(subsample, "subsample", "DnC")
        self.filter_fraction = number(filter_fraction, "filter_fraction", "DnC", above=0)
        self.seed = whole_number(seed, "seed", "DnC", at_least=0, or_none=True)

    @property
    def requirement(self) -> str:  # type: ignore[override]
        """What the number of rows must be."""
        return "n > 2f" if self.filter_fraction <= 2 else f"n > {self.filter_fraction:g} f"

    def least_rows(self, f: int) -> int:
        return max(2 * f + 1, self._dropped(f) + 1)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        keep = rows.count - self._dropped(f)
        good, total, unit = np.ones(rows.count, dtype=bool), np.zeros(rows.count), 0.0
        for _ in range(self.iterations if rows.d and keep < rows.count else 0):
            scores, largest = outlier_scores(rows.take(self._sample(rows)))
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

    def _sample(self, rows: Rows) -> NDArray[np.int64]:
        if rows.d <= self.subsample:
            return np.arange(rows.d)
        drawn: NDArray[np.int64] = rows.generator().choice(rows.d, self.subsample, replace=False, shuffle=False)
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
