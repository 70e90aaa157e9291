"""Chains: pre-aggregations one after the other, and at most one rule behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flwr_robust.geometry import Geometry
from flwr_robust.rows import Rows
from flwr_robust.rules.base import PreAggregation, Rule, Stage, State, Trace, undo_all
from flwr_robust.updates import FloatArray, Layer, Layers


class Chain(Rule):
    """Pre-aggregations, applied in order, then a rule. Made by `chain`."""

    takes_f = False

    def __init__(self, stages: tuple[PreAggregation, ...], rule: Rule) -> None:
        self._stages = (*stages, *rule.stages)
        self._last = rule.last
        self.f = self._last.f

    @property
    def stages(self) -> tuple[PreAggregation, ...]:
        """The pre-aggregations, in the order in which they are applied."""
        return self._stages

    @property
    def last(self) -> Rule:
        """The rule at the end."""
        return self._last

    def prepare(self, n: int, trace: Trace, rows: int | None = None) -> Rule:
        """See `Rule.prepare`."""
        for stage in self._stages:
            rows = stage.rows_after(n if rows is None else rows, stage.resolve_f(n))
        last = self._last.prepare(n, trace, rows)
        return self if last is self._last else Chain(self._stages, last)

    def check_layers(self, layers: Sequence[Layer]) -> None:
        """See `Rule.check_layers`."""
        self._last.check_layers(layers)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`: the rows come from behind the pre-aggregations."""
        return self._last.aggregate(rows, f)

    def reset(self) -> None:
        """Forget the state kept between calls, in every stage."""
        for stage in (*self._stages, self._last):
            stage.reset()

    def state(self) -> State:
        """See `Stage.state`; names begin with the stage's place in the chain."""
        parts = (*self._stages, self._last)
        return {f"{place}.{key}": value for place, part in enumerate(parts) for key, value in part.state().items()}

    def load_state(self, state: State) -> None:
        """See `Stage.load_state`."""
        parts = (*self._stages, self._last)
        own: list[State] = [{} for _ in parts]
        for key, value in state.items():
            place, _, name = key.partition(".")
            if not place.isdigit() or int(place) >= len(parts):
                raise ValueError(f"{self!r} has no stage for the state {key!r}; load the state of the same chain.")
            own[int(place)][name] = value
        for part, mine in zip(parts, own, strict=True):
            part.load_state(mine)

    def undo(self) -> Callable[[], None]:
        """See `Stage.undo`."""
        return undo_all((*self._stages, self._last))

    def __repr__(self) -> str:
        """Return the call that makes this chain."""
        return f"chain({', '.join(map(repr, (*self._stages, self._last)))})"


class PreChain(PreAggregation):
    """Pre-aggregations alone, applied in order. Made by `chain`."""

    takes_f = False

    def __init__(self, stages: tuple[PreAggregation, ...]) -> None:
        self.parts = stages

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """Apply the parts one after the other; a fraction f is taken of the rows that come in."""
        n = rows.rows
        for part in self.parts:
            rows = part.transform(rows, part.resolve_f(n), trace)
        return rows

    def __call__(self, X: Any, layers: Layers | None = None) -> Any:
        """See `PreAggregation.__call__`."""
        from flwr_robust.engine import transform_matrix

        return transform_matrix(self.parts, X)

    def __repr__(self) -> str:
        """Return the call that makes this chain."""
        return f"chain({', '.join(map(repr, self.parts))})"


def chain(*stages: Stage) -> Any:
    """Compose pre-aggregations and, at the end, a rule: ``chain(ARC(f=2), NNM(f=2), Krum(f=2))``.

    Parameters
    ----------
    *stages : PreAggregation or Rule
        Applied from left to right. Chains may stand among them.

    Returns
    -------
    Rule, or PreAggregation where no rule ends the chain.

    Raises
    ------
    ValueError
        If nothing is given, or a rule stands before the end.
    """
    flat: list[Stage] = []
    for stage in stages:
        if not isinstance(stage, Stage):
            raise ValueError(f"chain() was given {stage!r}; give rules and pre-aggregations of flwr_robust.rules.")
        flat += stage.parts if isinstance(stage, PreChain) else [stage]
    before, end = flat[:-1], flat[-1] if flat else None
    misplaced = [stage for stage in before if not isinstance(stage, PreAggregation)]
    if end is None or misplaced:
        raise ValueError(
            f"chain({', '.join(map(repr, stages))}) must be pre-aggregations (NNM, ARC, Bucketing, StaticClipping) "
            "and then at most one rule, which comes last."
        )
    pre = tuple(stage for stage in before if isinstance(stage, PreAggregation))
    if isinstance(end, PreAggregation):
        return PreChain((*pre, end))
    assert isinstance(end, Rule)
    return Chain(pre, end) if pre else end
