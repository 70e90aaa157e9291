"""Attacks that shift the honest mean along one direction: ``b = mean + tau * a`` (NNM 14.3, ARC D.3, LASA 7.3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np

from flwr_robust.rules.checks import number

from .base import Attack
from .moments import Matrix, Vector
from .search import FACTORS
from .sight import Rule, Sight, repeat
from .tuning import OPTIMAL, Tunable


@dataclass(frozen=True)
class SignFlip(Attack):
    """Send minus the honest mean: ``b = -mean`` (NNM 14.3, ARC D.3, LASA 7.3).

    Examples
    --------
    >>> SignFlip()(np.array([[1.0, 2.0], [3.0, 4.0]]), f=2)
    array([[-2., -3.],
           [-2., -3.]])
    """

    knows = "honest"

    def craft(self, sight: Sight) -> Matrix:
        return repeat(-sight.mean, sight.f, sight.honest)


@dataclass(frozen=True)
class Shift(Tunable):
    """Send ``mean + tau * direction``, f times: what FallOfEmpires and ALittleIsEnough share (NNM 14.3).

    Parameters
    ----------
    tau : float or str
        The factor, 0 or more; "optimal" searches it in `factors`; a subclass may allow other words.
    factors : sequence of float
        What "optimal" tries, each 0 or more. Default: 0 to 10 by 0.25.
    """

    tau: float | str
    factors: Sequence[float] = field(default=FACTORS, repr=False)

    knows = "honest"
    tuned: ClassVar[str] = "tau"
    words: ClassVar[tuple[str, ...]] = ("optimal",)

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if not isinstance(self.tau, str):
            number(self.tau, "tau", owner, at_least=0)
        elif self.tau not in self.words:
            words = " or ".join(f'"{word}"' for word in self.words)
            raise ValueError(f"{owner} was given tau = {self.tau!r}; give a finite number of 0 or more, or {words}.")
        object.__setattr__(self, "factors", at_least_0(self.factors, "factors", owner))
        super().__post_init__()

    @abstractmethod
    def direction(self, sight: Sight) -> Vector:
        """Return the (d,) direction a of the shift."""

    def factor(self, honest: Matrix, f: int, rule: Rule | None = None) -> float:
        """Return the factor tau that the attack uses on these updates.

        Raises
        ------
        ValueError
            If the factor is "optimal" and there is no rule.
        SearchError
            If the rule accepts none of the factors.
        """
        sight = Sight(honest, f, rule)
        return self.best(sight) if self.is_optimal else self.choose(sight)

    def choose(self, sight: Sight) -> float:
        """Return the factor for this round, where it is not searched."""
        return float(self.tau)

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return `factors`."""
        return self.factors

    def line(self, sight: Sight) -> tuple[float, Vector]:
        return 1.0, self.direction(sight)

    def craft_with(self, sight: Sight) -> Matrix:
        return repeat(sight.mean + self.choose(sight) * self.direction(sight), sight.f, sight.honest)


@dataclass(frozen=True)
class FallOfEmpires(Shift):
    """Shrink or reverse the honest mean: ``b = (1 - tau) mean`` (NNM 14.3, ARC D.3; Xie et al., 2020).

    Parameters
    ----------
    tau : float or "optimal"
        The factor; 2 is `SignFlip`.
    factors : sequence of float
        What "optimal" tries.

    Examples
    --------
    >>> FallOfEmpires(1.5)(np.array([[1.0, 2.0], [3.0, 4.0]]), f=1)
    array([[-1. , -1.5]])
    """

    tau: float | str = 2.0

    def direction(self, sight: Sight) -> Vector:
        """Return minus the mean."""
        return -sight.mean


@dataclass(frozen=True)
class ALittleIsEnough(Shift):
    """Hide in the honest spread: ``b = mean + tau std`` by coordinate (NNM 14.3, ARC D.3; Baruch 2019).

    Parameters
    ----------
    tau : float, "auto" or "optimal"
        "auto" is Baruch's ``z = Phi^-1((n - f - s) / (n - f))`` with ``s = floor(n / 2) + 1 - f``: the shift
        that s honest nodes are expected to exceed, a majority together with the f attackers.
    factors : sequence of float
        What "optimal" tries.
    ddof : {0, 1}
        Divisor of the variance, ``n - f - ddof``. The papers say "standard deviation" and no more: 0
        (population) is the plain reading, and is defined for a single honest node. 1 (sample) gives ByzFL's
        numbers: its documentation prints the population formula, its code divides by n - f - 1. The choice
        only rescales tau, by sqrt((n - f) / (n - f - 1)).

    Notes
    -----
    "auto" is negative where s is more than half of the honest nodes, as the formula says. Where it has no
    finite value (s below 1: the attackers are a majority already; n below 3), the share
    (n - f - s) / (n - f) is kept between 1 / (n - f + 1) and (n - f) / (n - f + 1).

    Examples
    --------
    >>> ALittleIsEnough(2.0)(np.array([[1.0, 2.0], [3.0, 4.0]]), f=1)
    array([[4., 5.]])
    """

    tau: float | str = 1.5
    ddof: int = 0

    words: ClassVar[tuple[str, ...]] = ("auto", "optimal")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ddof(self.ddof, type(self).__name__)

    def direction(self, sight: Sight) -> Vector:
        """Return the standard deviation of each coordinate."""
        return sight.deviations(self.ddof)

    def choose(self, sight: Sight) -> float:
        return hiding_factor(sight.num_honest, sight.f) if self.tau == "auto" else super().choose(sight)


@dataclass(frozen=True)
class Lie(Tunable):
    """Hide in the honest spread, on its lower side: ``b = mean - z std`` by coordinate (LASA 7.3; Baruch 2019).

    Parameters
    ----------
    z : float or "optimal"
        Standard deviations, 0 or more.
    ddof : {0, 1}
        As in `ALittleIsEnough`.

    Examples
    --------
    >>> Lie(2.0)(np.array([[1.0, 2.0], [3.0, 4.0]]), f=1)
    array([[0., 1.]])
    """

    z: float | str = 0.5
    ddof: int = 0

    knows = "honest"
    tuned: ClassVar[str] = "z"

    def __post_init__(self) -> None:
        if self.z != OPTIMAL:
            number(self.z, "z", "Lie", at_least=0)
        require_ddof(self.ddof, "Lie")
        super().__post_init__()

    def line(self, sight: Sight) -> tuple[float, Vector]:
        return 1.0, -sight.deviations(self.ddof)

    def craft_with(self, sight: Sight) -> Matrix:
        return repeat(sight.mean - float(self.z) * sight.deviations(self.ddof), sight.f, sight.honest)


def hiding_factor(num_honest: int, f: int) -> float:
    """Return Baruch's z for n - f honest and f malicious nodes; see `ALittleIsEnough`."""
    supporters = (num_honest + f) // 2 + 1 - f
    share = (num_honest - supporters) / num_honest
    least = 1 / (num_honest + 1)
    return NormalDist().inv_cdf(min(max(share, least), 1 - least))


def at_least_0(values: Any, name: str, owner: str) -> tuple[float, ...]:
    """Return numbers of 0 or more, such as the factors of a line search, as floats.

    Raises
    ------
    ValueError
        If one of them is none, or there are none.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise ValueError(f"{owner} was given {name} = {values!r}; give one finite number of 0 or more, or several.")
    return tuple(number(value, f"{name}[{place}]", owner, at_least=0) for place, value in enumerate(values))


def require_ddof(ddof: object, owner: str) -> None:
    """Raise ValueError unless ddof is 0 or 1."""
    if isinstance(ddof, bool) or ddof not in (0, 1):
        raise ValueError(f"{owner} was given ddof = {ddof!r}; give 0 or 1.")
