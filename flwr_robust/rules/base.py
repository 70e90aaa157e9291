"""What rules and pre-aggregations have in common, and chains of them.

A *pre-aggregation* maps n rows to n' rows, a *rule* maps them to one. Both mostly plan: they read a `Geometry`
(distances and norms) and answer with weights. `flwr_robust.rules.run` has the data read.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import cached_property
from inspect import Parameter, signature
from math import floor
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.choose import like, updates_for
from flwr_robust.engine.device import Block, FloatArray, Weights
from flwr_robust.engine.lp import distances_of
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Geometry, Rows
from flwr_robust.engine.updates import Layer, Layers
from flwr_robust.rules.checks import check_f, refuse_non_finite
from flwr_robust.rules.randomness import DRAWS
from flwr_robust.rules.run import COLUMNS, State, TooFewRowsError, Trace, mix, plan, require_rows, run
from flwr_robust.rules.side_inputs import SideInputs, Told


def resolve_f(f: int | float, n: int) -> int:
    """Return f as a number of rows out of n."""
    # 0.29 * 100 is 28.999999999999996: a fraction that names a whole number of rows means it.
    return f if isinstance(f, int) else floor(f * n + 1e-9)


def _differ(value: Any, default: Any) -> bool:
    # Whether arrays differ is an array.
    found = value != default
    return found if isinstance(found, bool) else not np.array_equal(value, default)


class Stage(ABC):
    """A rule or a pre-aggregation: a small callable with a requirement on the number of rows.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious: a number of rows, or a fraction of them in [0, 0.5) (floored).

    Attributes
    ----------
    name : str
        Under which the command line and the run configuration know the stage; by default its class's, in kebab-case.
    needs : Needs
        What must be known of the rows before the stage can plan.
    takes_f, mixes : bool
        Whether the stage takes an f, and whether its rows are no longer those of single nodes.
    remembers : tuple of str
        Names of what the stage keeps between calls: `memory` holds it, `reset`, `state` and `load_state` follow.
    requirement, source, breakdown, cost : str
        For documentation: what the number of rows must be, the paper, the share of malicious rows that is
        tolerated, and how often the data are read.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs.NOTHING
    takes_f: ClassVar[bool] = True
    mixes: ClassVar[bool] = False
    remembers: ClassVar[tuple[str, ...]] = ()
    requirement: ClassVar[str] = "n > 2f"
    source: ClassVar[str] = ""
    breakdown: ClassVar[str] = ""
    cost: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()

    def __init__(self, f: int | float = 0) -> None:
        self.f = check_f(f, type(self).__name__)

    @property
    def uses_f(self) -> bool:
        """Whether what the stage does depends on f."""
        return self.takes_f

    def least_rows(self, f: int) -> int:
        """Smallest number of rows that the stage accepts for this f."""
        return 2 * f + 1 if self.takes_f else 1

    def resolve_f(self, n: int) -> int:
        """Return f as a number of rows out of n."""
        return resolve_f(self.f, n)

    def rows_after(self, rows: int, f: int) -> int:
        """Return the number of rows that come out of this many."""
        return rows

    def require_rows_for(self, rows: int, f: int, n: int) -> None:
        """Raise TooFewRowsError where these rows, of n that come into the chain, are too few for the stage."""
        least = self.least_rows(f)
        if rows < least:
            raise TooFewRowsError(
                f"{self!r} was given n = {rows} rows with f = {f}, but it needs {self.requirement}, so at least "
                f"{least} rows: take a smaller f or wait for more rows."
            )

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments that differ from its defaults, and f, for ``repr``."""
        plain = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        parameters = {n: p for n, p in signature(type(self)).parameters.items() if p.kind in plain}
        values = {name: getattr(self, name, parameter.default) for name, parameter in parameters.items()}
        return {
            name: value
            for name, value in values.items()
            if (self.uses_f if name == "f" else _differ(value, parameters[name].default))
        }

    def __repr__(self) -> str:
        """Return the call that makes this stage."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.options().items())
        return f"{type(self).__name__}({arguments})"

    @property
    def parts(self) -> Sequence[Stage]:
        """The stages that this one is made of, whose memory is part of its own."""
        return ()

    def initial_memory(self) -> State:
        """Return what the stage remembers before its first call."""
        return {}

    @cached_property
    def memory(self) -> State:
        """What is kept between calls, by name."""
        return self.initial_memory()

    def remembered(self, d: int) -> State:
        """Return what is kept, for rows of d columns: of a model of another size, where draws stand alone."""
        size = self.memory.get(COLUMNS)
        if size is None or int(size) == d:
            return self.memory
        return {name: value for name, value in self.memory.items() if name == DRAWS}

    def remember(self, values: State, own: Collection[str] = ()) -> None:
        """Store copies, in the place of what was there as far as sizes agree: no more memory is taken than that.

        What is `own`, by name, nobody else holds, and is stored as it is.
        """
        if COLUMNS in values:
            self.memory = self.remembered(int(values[COLUMNS]))
        for name, value in values.items():
            kept = self.memory.get(name)
            if name in own:
                self.memory[name] = value
            elif kept is None or kept.shape != value.shape or kept.dtype != value.dtype:
                self.memory[name] = value.copy()
            elif kept is not value:
                kept[...] = value

    def reset(self) -> None:
        """Forget what was kept from earlier calls."""
        self.memory = self.initial_memory()
        for part in self.parts:
            part.reset()

    def state(self) -> State:
        """Return what is kept between calls, as arrays by name, which never change.

        The names of a part's begin with its place.
        """
        kept = {name: value.copy() for name, value in self.memory.items()}
        for place, part in enumerate(self.parts):
            kept |= {f"{place}.{name}": value for name, value in part.state().items()}
        return kept

    def load_state(self, state: State) -> None:
        """Take over what `state` returned.

        Raises
        ------
        ValueError
            If it is another stage's state, or holds NaN or infinity.
        """
        refuse_non_finite(state, repr(self))
        for stage, own in self._parted(state):
            stage.memory = {name: value.copy() for name, value in own.items()}

    def _parted(self, state: State) -> list[tuple[Stage, State]]:
        """Return what belongs to each stage of a state; raise ValueError where it is another stage's."""
        own = {name: value for name, value in state.items() if "." not in name}
        places = {name.partition(".")[0] for name in state if "." in name}
        strange = places - {str(place) for place in range(len(self.parts))}
        if strange or own.keys() not in (self.initial_memory().keys(), set(self.remembers)):
            raise ValueError(f"{self!r} was given the state {sorted(state)}; load the state of the same chain.")
        found = [(self, own)]
        for place, part in enumerate(self.parts):
            head = f"{place}."
            found += part._parted({name.removeprefix(head): v for name, v in state.items() if name.startswith(head)})
        return found


class PreAggregation(Stage):
    """A linear map of the rows: ``(n, d) -> (n', d)``.

    Attributes
    ----------
    clips : bool
        Whether no row comes out much longer than honest ones are.
    """

    clips: ClassVar[bool] = False

    @property
    def stages(self) -> tuple[PreAggregation, ...]:
        """The maps that are applied one after the other: this one."""
        return (self,)

    @abstractmethod
    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """Return the rows after this stage."""

    def kappa_after(self, kappa: float, n: int, f: int) -> float | None:
        """Return the coefficient that a paper proves for this stage before a rule that has the given one, if any."""
        return None

    def __call__(
        self,
        X: Any,
        layers: Layers | None = None,
        *,
        ids: Sequence[Hashable] | None = None,
        root: Any = None,
        model: Any = None,
    ) -> Any:
        """Apply the map.

        Parameters
        ----------
        X : (n, d) NumPy array or torch tensor of floats
            One update a row; not modified.
        layers, ids, root, model : optional
            Ignored here; rules take the same arguments.

        Returns
        -------
        (n', d) array or tensor of the same kind and dtype.

        Raises
        ------
        ValueError
            If X has too few rows for f, is not 2-D, or holds NaN or infinity.
        """
        found = mix(self.stages, updates_for(X))
        found.trace.store()
        return like(found.rows, X)


class Rule(Stage):
    """An aggregation rule: ``(n, d) -> (d,)``.

    Attributes
    ----------
    measured : tuple of str
        Names of vectors (d,), remembered or given, whose distances to the rows the rule needs.
    requires, optional : tuple of str
        Side inputs (``"ids"``, ``"root"``, ``"model"``) that the rule cannot do without, and those that it reads
        where they are given: without ids rows are numbered.
    masked : bool
        Whether a huge row hides large ones from the rule, unless a stage in front of it clips.
    tolerates : bool
        Whether the rule tolerates any malicious row at all.
    """

    measured: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    masked: bool = False
    tolerates: ClassVar[bool] = True

    @property
    def stages(self) -> tuple[PreAggregation, ...]:
        """The pre-aggregations that come before the rule."""
        return ()

    @property
    def last(self) -> Rule:
        """The rule at the end of the chain."""
        return self

    def require_rows(self, n: int) -> None:
        """Raise TooFewRowsError, a ValueError, where n rows are too few: it names n, f and the requirement."""
        require_rows((*self.stages, self.last), n)

    @property
    def min_rows(self) -> int:
        """Smallest n that the chain accepts."""
        n = 1
        while not self.accepts(n):
            n += 1
        return n

    def accepts(self, n: int) -> bool:
        """Whether n rows are enough for the chain."""
        try:
            self.require_rows(n)
        except TooFewRowsError:
            return False
        return True

    @property
    def is_masked(self) -> bool:
        """Whether a huge row hides large ones from the chain."""
        return self.last.masked and not any(stage.clips for stage in self.stages)

    def choose(self, rows: int, n: int, trace: Trace) -> Rule:
        """Return the rule that runs: this one, unless it is a choice among rules.

        Parameters
        ----------
        rows : int
            Rows that reach this rule.
        n : int
            Rows that come into the chain, of which a fraction f is taken.
        trace : Trace
            Has the generator, and gets to know what was drawn.
        """
        return self

    def require_layers(self, layers: Sequence[Layer]) -> None:
        """Raise ValueError where the rule cannot work on a model of these layers; most take any.

        Strategies call it when a model is sent: this is a matter of configuration, not of what nodes send.
        """
        return

    def kappa(self, n: int, f: int) -> float | None:
        """Return the (f, kappa)-robustness coefficient that a paper proves for the rule alone, if any."""
        return None

    def beside(self, remembered: State, told: Told, n: int, d: int) -> Mapping[str, FloatArray]:
        """Return the vectors (d,) that are measured with the n rows, by name: those that are `measured`."""
        known = remembered | told.vectors
        return {name: known[name] for name in self.measured if name in known and known[name].size == d}

    @abstractmethod
    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """Return the (d,) aggregate of the rows."""

    def __call__(
        self,
        X: Any,
        layers: Layers | None = None,
        *,
        ids: Sequence[Hashable] | None = None,
        root: Any = None,
        model: Any = None,
    ) -> Any:
        """Aggregate the rows of X.

        Parameters
        ----------
        X : (n, d) NumPy array or torch tensor of floats
            One update a row; not modified. Where a tensor lies on CUDA, so do the passes' blocks.
        layers : sequence of (name, shape or size), optional
            The model's arrays in column order, for rules that work by layers.
        ids : sequence of n different hashable values, optional
            Who sent the rows, for rules that remember nodes; by default row numbers. Behind a pre-aggregation that
            mixes rows they are row numbers in any case.
        root : (d,) array or tensor, optional
            The update that the server computed on its own clean data from the same global model, for rules that
            compare the rows with it.
        model : (d,) array or tensor, optional
            The global model that was sent, for rules that look at the nodes' models.

        Returns
        -------
        (d,) array or tensor of the same kind and dtype, on the same device.

        Raises
        ------
        ValueError
            If X has too few rows for f, is not 2-D, or holds NaN or infinity; or if a side input that the rule
            reads is wrong, or one that it `requires` is missing.
        """
        found = run(self, updates_for(X, layers), side=SideInputs(ids, root, model))
        found.trace.store()
        return like(found.vector, X)


class LinearRule(Rule):
    """A rule whose output is a weighted sum of the rows, with weights that depend on distances only.

    Attributes
    ----------
    p : float
        The order of the norm of the distances that `weights` finds in its rows; any but 2 takes one more pass.
    planned : bool
        Whether `weights` alone makes the output, so that it is known without the data.
    """

    p: float = 2
    planned: bool = True

    @abstractmethod
    def weights(self, rows: Geometry, f: int) -> Weights:
        """Return the (m,) weights of the rows."""

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        geometry = rows.geometry
        if self.p != 2:
            geometry = geometry.with_distances(distances_of(rows, self.p))
        return rows.combine(self.weights(geometry, f))


class CoordinateRule(Rule):
    """A rule that works on each coordinate by itself.

    Attributes
    ----------
    takes_tensors : bool
        Whether `reduce` takes torch tensors too, as it gets them with a `device`; otherwise its pass runs on the CPU.
    """

    takes_tensors: ClassVar[bool] = False

    @abstractmethod
    def reduce(self, block: Block, f: int, out: Weights) -> None:
        """Aggregate each column of ``block`` (m, columns), which may be overwritten, into ``out`` (columns,)."""

    def picks(self, block: NDArray[np.float64], f: int) -> Weights | None:
        """Return each row's mean coefficient (m,) over columns (m, columns), for reports; None where there is none."""
        return None

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        vector = rows.reduce(lambda block, out: self.reduce(block, f, out), tensors=self.takes_tensors)
        rows.shares = (lambda block: self.picks(block, f)), None
        return vector


# ---------------------------------------------------------------- chains


class Chain(Rule):
    """Pre-aggregations, applied in order, then a rule. Made by `chain`."""

    takes_f = False

    def __init__(self, stages: tuple[PreAggregation, ...], rule: Rule) -> None:
        self._stages = (*stages, *rule.stages)
        self._last = rule.last
        self.f = self._last.f

    @property
    def parts(self) -> Sequence[Stage]:
        return (*self._stages, self._last)

    @property
    def stages(self) -> tuple[PreAggregation, ...]:
        return self._stages

    @property
    def last(self) -> Rule:
        return self._last

    def require_layers(self, layers: Sequence[Layer]) -> None:
        self._last.require_layers(layers)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """Return what the last rule makes of rows that come from behind the pre-aggregations."""
        return self._last.aggregate(rows, f)

    def __repr__(self) -> str:
        """Return the call that makes this chain."""
        return f"chain({', '.join(map(repr, self.parts))})"


class PreChain(PreAggregation):
    """Pre-aggregations alone, applied in order. Made by `chain`."""

    takes_f = False

    def __init__(self, stages: tuple[PreAggregation, ...]) -> None:
        self.f, self._stages = 0, stages

    @property
    def parts(self) -> Sequence[Stage]:
        return self._stages

    @property
    def stages(self) -> tuple[PreAggregation, ...]:
        return self._stages

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """Apply the parts one after the other; a fraction f is taken of the rows that come in."""
        return plan(self._stages, rows, rows.count, trace)

    def __repr__(self) -> str:
        """Return the call that makes this chain."""
        return f"chain({', '.join(map(repr, self._stages))})"


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
