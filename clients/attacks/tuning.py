"""The optimiser of attacks that have one factor: whatever the attack, against whatever chain the server runs."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from .base import Attack, OnBase
from .moments import Matrix, Vector
from .search import FACTORS, SearchError, best_of, try_factors, try_rows
from .sight import Sight

OPTIMAL = "optimal"


class Tunable(Attack):
    """An attack with one parameter that may be "optimal": searched in each round against the server's rule.

    The best value is the one that drives the rule's output farthest from the honest mean, or nearest to what the
    attackers want (`goal`); of equally good ones the least.

    Attributes
    ----------
    tuned : str
        Name of the parameter.
    """

    tuned: ClassVar[str]

    def __post_init__(self) -> None:
        if self.is_optimal:
            object.__setattr__(self, "knows", "rule")

    @property
    def is_optimal(self) -> bool:
        """Whether the parameter is to be searched."""
        return isinstance(value := getattr(self, self.tuned), str) and value == OPTIMAL

    @abstractmethod
    def craft_with(self, sight: Sight) -> Matrix:
        """Return the (f, d) malicious updates with the parameter as it is: a number, or the default."""

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return the values that "optimal" tries. Default: 0 to 10 by 0.25."""
        return FACTORS

    def goal(self, sight: Sight) -> Vector | None:
        """Return what the attackers want the server's output to be; None: as far from the honest mean as it goes."""
        return None

    def line(self, sight: Sight) -> tuple[float, Vector] | None:
        """Return s and a, where all updates are ``s * mean + parameter * a``: such attacks are searched in two passes.

        None: each candidate costs a call of the rule.
        """
        return None

    def craft(self, sight: Sight) -> Matrix:
        if not self.is_optimal:
            return self.craft_with(sight)
        return self.at(self.best(sight)).craft_with(sight) if sight.f else sight.honest[:0]

    def at(self, value: float) -> Tunable:
        """Return the same attack with another value of its parameter; it goes on with the same draws."""
        other = copy.copy(self)
        object.__setattr__(other, self.tuned, value)
        return other

    def best(self, sight: Sight, candidates: Sequence[float] | None = None) -> float:
        """Return the candidate that serves the attackers best.

        Raises
        ------
        ValueError
            If there is no rule.
        SearchError
            If the rule accepts none of the candidates.
        """
        owner = type(self).__name__
        if sight.rule is None:
            raise ValueError(
                f'{owner}({self.tuned}="optimal") needs the server\'s rule to search the worst value, and was given '
                f"rule = None; give rule=, or a number for {self.tuned}."
            )
        tried = self.candidates(sight) if candidates is None else candidates
        if not len(tried):
            raise SearchError(f"{owner} finds no {self.tuned} to try, because no honest update moves the model.")
        goal, line = self.goal(sight), self.line(sight)
        if goal is None and line is not None:
            start, direction = line
            gains = try_factors(sight, direction, tried, sight.rule, start).errors
        else:
            # Each candidate sees the draws of this round, and leaves them where they are.
            crafts = [partial(copy.deepcopy(self.at(value)).craft_with, sight) for value in tried]
            gains = try_rows(sight, crafts, sight.rule, goal)
        return best_of(tried, gains)


@dataclass(frozen=True)
class Optimal(OnBase):
    """Any attack that has one factor, with the worst factor of each round for the server's rule.

    What the word "optimal" does in the place of an attack's factor, with candidates of your own.

    Parameters
    ----------
    base : Attack
        An attack with a factor: Lie, Tailored, ModelReplacement and others.
    candidates : sequence of float, optional
        What is tried. Default: the attack's own.

    Examples
    --------
    >>> import numpy as np
    >>> from clients.attacks import Tailored
    >>> honest = np.array([[1.0], [2.0], [3.0]])
    >>> Optimal(Tailored(), candidates=[1.0, 2.0])(honest, 1, rule=lambda rows: rows.mean(axis=0))
    array([[-4.]])
    """

    base: Attack
    candidates: Sequence[float] | None = None

    knows = "rule"

    def __post_init__(self) -> None:
        if not isinstance(self.base, Tunable):
            raise ValueError(
                f"Optimal was given base = {self.base!r}; give an attack with one factor, such as Lie(), Tailored() or "
                "ModelReplacement()."
            )
        if self.candidates is not None:
            for value in tuple(self.candidates):
                self._with(value)  # which checks it

    def _with(self, value: float) -> Any:
        """Return the attack with another value of its factor."""
        base: Any = self.base
        return replace(base, **{base.tuned: value})

    @property
    def _tunable(self) -> Tunable:
        assert isinstance(self.base, Tunable)
        return self.base

    def craft(self, sight: Sight) -> Matrix:
        value = self._tunable.best(sight, self.candidates)
        return self._tunable.at(value).craft_with(sight)
