"""MixTailor: another rule in each round, so that no attack can be tailored to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Layer
from flwr_robust.rules.base import Rule, Stage
from flwr_robust.rules.bulyan import Bulyan
from flwr_robust.rules.checks import whole_number
from flwr_robust.rules.geometric_median import GeometricMedian
from flwr_robust.rules.krum import Krum
from flwr_robust.rules.median import Median
from flwr_robust.rules.randomness import Random
from flwr_robust.rules.run import Trace, require_rows

NORMS = range(1, 17)
# Bulyan's, in turns.
SELECTIONS = ("krum", "mean", "median", "geometric-median")


class MixTailor(Random, Rule):
    r"""One rule of a pool, drawn uniformly in each call.

    $$F(X) = F_J(X), \quad J \sim \operatorname{Uniform}\{1, \ldots, m\}$$

    The default pool is the paper's: 64 rules in 4 families of 16, which differ in the norm, p = 1 to 16:
    coordinate-wise median (which has no norm: 16 equal members keep its share at a quarter), Krum, geometric
    median, and Bulyan, whose selections by Krum, mean, median and geometric median take turns as p grows.
    Where n < 4f + 3 Bulyan's family is left out. A call costs what the rule drawn costs.

    Source: MixTailor, sections 3 and 5.

    Parameters
    ----------
    pool : sequence of Rule, optional
        Rules or chains to draw from.
    seed : int, optional
        Seed of the draws; by default from the operating system, which an attacker cannot know.
    f : int or float
        Rows that may be malicious, for the default pool.

    Attributes
    ----------
    last_drawn : str or None
        The rule of the last call.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import Median, MixTailor, TrimmedMean
    >>> rule = MixTailor(pool=[Median(), TrimmedMean(1)], seed=1)
    >>> rule(np.array([[1.0], [2.0], [30.0]])), rule.last_drawn
    (array([2.]), 'Median()')
    """

    name = "mixtailor"
    requirement = "n > 2f, or what the pool needs"
    source = "MixTailor 3, 5"
    breakdown = "the pool's least"
    cost = "the drawn rule's"

    def __init__(self, pool: Sequence[Rule] | None = None, seed: int | None = None, f: int | float = 0) -> None:
        super().__init__(f)
        if pool is not None and not _is_pool(pool):
            raise ValueError(f"MixTailor was given pool = {pool!r}; give one rule or chain or more, or None.")
        self.pool = default_pool(self.f) if pool is None else tuple(pool)
        self.default = pool is None
        self.seed = whole_number(seed, "seed", "MixTailor", at_least=0, or_none=True)
        self.last_drawn: str | None = None

    def options(self) -> dict[str, Any]:
        given: dict[str, Any] = {"f": self.f} if self.default else {"pool": list(self.pool)}
        return given if self.seed is None else given | {"seed": self.seed}

    @property
    def parts(self) -> Sequence[Stage]:
        return self.pool

    @property
    def masked(self) -> bool:  # type: ignore[override]
        """Whether a rule of the pool is masked, with no stage of its own that clips."""
        return any(rule.is_masked for rule in self.pool)

    @property
    def uses_f(self) -> bool:
        return self.default

    def require_rows_for(self, rows: int, f: int, n: int) -> None:
        """Raise TooFewRowsError where a rule of a given pool does not accept the rows."""
        if self.default:
            super().require_rows_for(rows, f, n)
        else:
            for rule in self.pool:
                require_rows((*rule.stages, rule.last), n, rows)

    def require_layers(self, layers: Sequence[Layer]) -> None:
        for rule in self.pool:
            rule.require_layers(layers)

    def choose(self, rows: int, n: int, trace: Trace) -> Rule:
        """Draw a rule."""
        places = self._places(rows, n)
        trace.rule_drawn = places[int(trace.generator(self).integers(len(places)))]
        drawn = self.pool[trace.rule_drawn]
        self.last_drawn = repr(drawn)
        trace.drawn.append(f"MixTailor: {self.last_drawn}")
        return drawn

    def candidates(self, n: int, rows: int | None = None) -> list[Rule]:
        """Return the rules that may be drawn for n rows that come into the chain, `rows` of which reach this rule."""
        return [self.pool[place] for place in self._places(n if rows is None else rows, n)]

    def _places(self, rows: int, n: int) -> list[int]:
        without_bulyan = self.default and rows < 4 * self.resolve_f(n) + 3
        return [k for k, rule in enumerate(self.pool) if not (without_bulyan and isinstance(rule, Bulyan))]

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """Not called: `choose` puts the rule drawn in this one's place."""
        raise TypeError("MixTailor runs the rule that choose() draws.")


def _is_pool(pool: object) -> bool:
    return isinstance(pool, Sequence) and len(pool) > 0 and all(isinstance(rule, Rule) for rule in pool)


def default_pool(f: int | float) -> tuple[Rule, ...]:
    """Return the paper's 64 rules for this f."""
    families: list[list[Rule]] = [
        [Median() for _ in NORMS],
        [Krum(f, p=p) for p in NORMS],
        [GeometricMedian(p=p) for p in NORMS],
        [Bulyan(f, selection=SELECTIONS[(p - 1) % len(SELECTIONS)], p=p) for p in NORMS],
    ]
    return tuple(rule for family in families for rule in family)
