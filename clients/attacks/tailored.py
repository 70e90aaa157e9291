"""Attacks tailored to a rule, or to a pool of rules (MixTailor 5, A.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from flwr_robust import rules
from flwr_robust.rules.checks import number
from flwr_robust.rules.whatif import can_plan

from .base import Attack
from .moments import Matrix, Vector
from .noise import Randomised
from .search import SearchError, bare, try_factors
from .shifts import at_least_0
from .sight import Rule, Sight, repeat
from .tuning import OPTIMAL, Tunable

# From what breaks Krum (0.1) to what breaks the median (10), in steps of a tenth of a decade.
LAMBDAS: tuple[float, ...] = (0.0, *(round(10 ** (step / 10), 3) for step in range(-10, 11)))


@dataclass(frozen=True)
class Tailored(Tunable):
    """Send the mean reversed: ``b = -epsilon mean`` (MixTailor 5; Fang et al., 2020; Xie et al., 2020).

    A small epsilon (0.1) is tailored to Krum, a large one (10) to the median.

    Parameters
    ----------
    epsilon : float or "optimal"
        0 or more; "optimal" tries `LAMBDAS`.

    Examples
    --------
    >>> Tailored(0.5)(np.array([[1.0, 2.0], [3.0, 4.0]]), f=1)
    array([[-1. , -1.5]])
    """

    epsilon: float | str = 10.0

    knows = "honest"
    tuned: ClassVar[str] = "epsilon"

    def __post_init__(self) -> None:
        if self.epsilon != OPTIMAL:
            number(self.epsilon, "epsilon", "Tailored", at_least=0)
        super().__post_init__()

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return `LAMBDAS`."""
        return LAMBDAS

    def line(self, sight: Sight) -> tuple[float, Vector]:
        return 0.0, -sight.mean

    def craft_with(self, sight: Sight) -> Matrix:
        return repeat(-float(self.epsilon) * sight.mean, sight.f, sight.honest)


@dataclass(frozen=True)
class RandomEpsilon(Randomised):
    """Send ``-epsilon mean`` with an epsilon drawn in each round (MixTailor 5, Fig. 4).

    Parameters
    ----------
    choices : sequence of float
        What epsilon is drawn from, uniformly; each 0 or more.
    seed : int, optional
        See `Randomised`.
    """

    choices: Sequence[float] = (0.1, 10.0)

    knows = "honest"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "choices", at_least_0(self.choices, "choices", "RandomEpsilon"))

    def craft(self, sight: Sight) -> Matrix:
        epsilon = self.draws.next().choice(self.choices)
        return repeat(-epsilon * sight.mean, sight.f, sight.honest)


@dataclass(frozen=True)
class PoolAttack(Attack):
    """Turn every rule of a pool against the honest mean at once (MixTailor A.4, P3).

    ``b = -lambda mean`` with ``argmin_lambda max_m <AGG_m(b..b, x_1..x_{n-f}), mean>``; the least lambda of several.
    The paper sums instead of averaging, which only rescales lambda.

    Parameters
    ----------
    pool : sequence of callable, optional
        Rules ``(n, d) -> (d,)``. Default: the server's: the pool of a MixTailor, else its one rule.
    factors : sequence of float
        The values of lambda to try.

    Notes
    -----
    Rules that need the data for each lambda (lp norms, say) run only while that lambda can still be the best, and
    as copies, so that their state and their draws stay as they are.
    """

    pool: Sequence[Rule] | None = None
    factors: Sequence[float] = field(default=LAMBDAS, repr=False)

    knows = "rule"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", at_least_0(self.factors, "factors", "PoolAttack"))
        if self.pool is None:
            return
        if isinstance(self.pool, str) or not (len(self.pool) and all(map(callable, self.pool))):
            raise ValueError(f"PoolAttack was given pool = {self.pool!r}; give one rule (n, d) -> (d,) or more.")
        object.__setattr__(self, "pool", tuple(self.pool))
        object.__setattr__(self, "knows", "honest")

    def craft(self, sight: Sight) -> Matrix:
        return repeat(-self.choose(sight) * sight.mean, sight.f, sight.honest)

    def choose(self, sight: Sight) -> float:
        """Return lambda.

        Raises
        ------
        ValueError
            If there is neither a pool nor a rule.
        SearchError
            If the pool accepts none of the factors.
        """
        at_once, one_by_one = _sorted_by_cost(self._rules(sight))
        worst = np.full(len(self.factors), np.nan)
        for rule in at_once:
            worst = np.fmax(worst, _products(sight, self.factors, rule))
        best = (np.inf, np.inf)
        for index in np.argsort(worst, kind="stable"):
            factor = self.factors[index]
            for rule in one_by_one:
                if worst[index] > best[0]:
                    break
                worst[index] = np.fmax(worst[index], _products(sight, [factor], rule)[0])
            if not np.isnan(worst[index]):
                best = min(best, (float(worst[index]), factor))
        if np.isinf(best[1]):
            raise SearchError(
                f"none of {len(self.factors)} factors could be tried on the pool with {sight.num_honest} honest and "
                f"{sight.f} malicious rows; give rules that accept this many rows, and finite factors."
            )
        return best[1]

    def _rules(self, sight: Sight) -> Sequence[Rule]:
        if self.pool is not None:
            return self.pool
        if sight.rule is None:
            raise ValueError("PoolAttack was given neither a pool nor the server's rule; give pool= or rule=.")
        return _pool_of(sight.rule, sight.num_honest + sight.f)


def _pool_of(rule: Rule, n: int) -> Sequence[Rule]:
    """Return the rules that the server may draw for n rows: of a MixTailor its pool, else the rule alone."""
    bare_rule, options = bare(rule)
    mixed: Any = bare_rule
    last = getattr(mixed, "last", None)
    if not isinstance(last, rules.MixTailor):
        return (rule,)
    rows = n
    for stage in mixed.stages:
        rows = stage.rows_after(rows, stage.resolve_f(n))
    drawn = [rules.chain(*mixed.stages, candidate) for candidate in last.candidates(n, rows)]
    return [partial(one, **options) for one in drawn] if options else drawn


def _sorted_by_cost(pool: Sequence[Rule]) -> tuple[list[Rule], list[Rule]]:
    """Separate rules that two passes evaluate for all factors from those that need passes for each factor."""
    at_once: list[Rule] = []
    one_by_one: list[Rule] = []
    for rule in pool:
        chain, _ = bare(rule)
        planned = isinstance(chain, rules.Rule) and can_plan(chain) and getattr(chain.last, "p", 2) == 2
        (at_once if planned else one_by_one).append(rule)
    return at_once, one_by_one


def _products(sight: Sight, factors: Sequence[float], rule: Rule) -> Vector:
    """Return ``<rule's output, mean>`` for each factor; NaN where the rule refuses."""
    try:
        return try_factors(sight, -sight.mean, factors, rule, start=0.0).inner_products
    except SearchError:
        return np.full(len(factors), np.nan)
