"""What tables and figures can show of a cell: names, units, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeVar

Item = TypeVar("Item")

MEASURE = "measure/"
PER_CENT = 100.0


@dataclass(frozen=True)
class Metric:
    """A number of a cell, or by round."""

    name: str
    title: str
    """For headings and axes."""
    unit: str = ""
    """Behind the title, in brackets; may be empty."""
    better: int = 0
    """1 if more is better, -1 if less is, 0 if neither."""
    scale: float = 1.0
    """What the number is multiplied with to be shown."""
    symbol: str = ""
    """Instead of the title where several metrics are beside each other."""
    smooth: bool = False
    """Whether curves show means over several rounds, since it depends on what is drawn at random in each round."""
    median: bool = False
    """Whether a run counts with the median of its rounds instead of their mean: the first round of a session loads
    compiled code, which takes ten times as long as aggregation."""

    @property
    def short(self) -> str:
        """The symbol, or else the title."""
        return self.symbol or self.title

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def in_per_cent(self) -> bool:
        """Whether it is shown in per cent."""
        return self.scale == PER_CENT

    def _digits(self, value: float) -> int:
        """Return how many decimals a value is shown with: one of a per cent, else three significant digits."""
        if self.in_per_cent:
            return 1
        return max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0

    def worst(self, items: Iterable[Item], key: Callable[[Item], float]) -> Item:
        """Return the item whose number is the worst; the least where neither direction is better."""
        return max(items, key=key) if self.better < 0 else min(items, key=key)

    def best(self, means: Mapping[Item, float]) -> list[Item]:
        """Return what has the best number, with what looks as good when it is written."""
        scores = {name: self.score(mean) for name, mean in means.items()}
        return [name for name in scores if scores[name] == max(scores.values())]

    def score(self, mean: float) -> float:
        """Return a number as it is written, the greater the better."""
        return self.better * float(self.written(mean))

    def written(self, mean: float, spread: float | None = None) -> str:
        """Write a mean and its standard deviation, with as many decimals each."""
        digits = self._digits(mean)
        return _rounded(mean, digits) + ("" if spread is None else f" ± {_rounded(spread, digits)}")


def _rate(name: str, title: str, better: int, symbol: str = "") -> Metric:
    return Metric(name, title, "%", better, PER_CENT, symbol)


def _measure(name: str, title: str, symbol: str, better: int = 0) -> Metric:
    return Metric(MEASURE + name, title, better=better, symbol=symbol)


_CAUGHT, _LOST = "Malicious updates caught, TPR", "Honest updates lost, FPR"
_TOTALS = [
    _rate("max-accuracy", "Maximal test accuracy", 1),
    _rate("final-accuracy", "Final test accuracy", 1),
    _rate("final-attack-success-rate", "Final attack success rate", -1, "ASR"),
    _rate("tpr", _CAUGHT, 1, "TPR"),
    _rate("fpr", _LOST, -1, "FPR"),
    Metric("wall-seconds", "Time of a run", "s", -1),
]
_SERIES = [
    _rate("accuracy", "Test accuracy", 1),
    _rate("attack-success-rate", "Attack success rate", -1, "ASR"),
    Metric("loss", "Test loss", "", -1),
    Metric("aggregation-seconds", "Aggregation, a round", "s", -1, median=True),
    _measure("xi", "ξ, heterogeneity of honest gradients", "ξ"),
    _measure("A", "A, disturbance of poisoned gradients", "A"),
    # Bucketing forms other buckets in each round.
    replace(_measure("kappa", "κ, measured robustness coefficient", "κ", -1), smooth=True),
    _measure("threshold", "C, clipping threshold", "threshold C"),
    _measure("honest-norm", "Norm of the honest mean", "norm of the honest mean"),
    _measure("norm-least", "Least norm of an honest update", "least norm"),
    _measure("norm-median", "Median norm of honest updates", "median norm"),
    _measure("norm-largest", "Largest norm of an honest update", "largest norm"),
    _rate(MEASURE + "tpr", _CAUGHT, 1, "TPR"),
    _rate(MEASURE + "fpr", _LOST, -1, "FPR"),
]
# Known in the rounds that were evaluated; a cell counts with the last one (`TOTALS`).
BY_EVALUATION = ("accuracy", "attack-success-rate")
TOTALS = {metric.name: metric for metric in _TOTALS}
SERIES = {metric.name: metric for metric in _SERIES}


def total(name: str) -> Metric:
    """Return the metric of that name: one number a cell.

    Numbers by round, other than accuracies and success rates, count with their mean over the rounds, or with their
    median (`Metric`).

    Raises
    ------
    ValueError
        If there is none.
    """
    if name in TOTALS:
        return TOTALS[name]
    if name in BY_EVALUATION or (name not in SERIES and not name.startswith(MEASURE)):
        raise ValueError(f"{name!r} is no metric of a run; {_allowed([*TOTALS, *(set(SERIES) - set(BY_EVALUATION))])}.")
    return SERIES.get(name, Metric(name, name.removeprefix(MEASURE)))


def by_round(name: str) -> Metric:
    """Return the metric of that name: numbers by round.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in SERIES and not name.startswith(MEASURE):
        raise ValueError(f"{name!r} is not known by round; {_allowed(SERIES)}.")
    return SERIES.get(name, Metric(name, name.removeprefix(MEASURE)))


def _rounded(value: float, digits: int) -> str:
    """Round as a reader does: 6.25 becomes 6.3."""
    return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def _allowed(names: object) -> str:
    listed = ", ".join(sorted(names))  # type: ignore[call-overload]
    return f"allowed: {listed}, or {MEASURE} and the name of a measure"
