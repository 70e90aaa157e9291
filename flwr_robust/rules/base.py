"""What rules and pre-aggregations have in common, and how a chain of them runs.

A *pre-aggregation* maps n rows to n' rows, a *rule* maps them to one. Both only plan: they look at a
`Geometry` (distances and norms) and answer with weights. `flwr_robust.engine` reads the data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.devices import Block
from flwr_robust.geometry import Geometry
from flwr_robust.rows import Rows
from flwr_robust.rules.checks import check_f, resolve_f
from flwr_robust.updates import FloatArray, Layer, Layers

Weights = NDArray[np.float64]
State = dict[str, NDArray[Any]]


class Needs(IntEnum):
    """What a stage must know of its rows before it can plan."""

    NOTHING = 0
    NORMS = 1
    DISTANCES = 2


@dataclass
class Trace:
    """What a chain did to the rows in one call, for reports.

    Attributes
    ----------
    clip_factors : (n,) float64 array or None
        Factor of each row by clipping; None where nothing clips.
    threshold : float or None
        Norm that rows were clipped to.
    drawn : list of str
        What random stages drew.
    rule_drawn : int or None
        Place in its pool of the rule that was drawn.
    """

    clip_factors: NDArray[np.float64] | None = None
    threshold: float | None = None
    drawn: list[str] = field(default_factory=list)
    rule_drawn: int | None = None


class Stage(ABC):
    """A rule or a pre-aggregation: a small callable with a requirement on the number of rows.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious: a number of rows, or a fraction of them in [0, 0.5) (floored).

    Attributes
    ----------
    name : str
        Under which the command line and the run configuration know the stage.
    needs : Needs
        What must be known of the rows before the stage can plan.
    takes_f, mixes : bool
        Whether the stage takes an f, and whether its rows are no longer those of single nodes.
    requirement, source, breakdown, cost : str
        For documentation: what the number of rows must be, the paper, the share of malicious rows that is
        tolerated, and how often the data are read.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs.NOTHING
    takes_f: ClassVar[bool] = True
    mixes: ClassVar[bool] = False
    requirement: ClassVar[str] = "n > 2f"
    source: ClassVar[str] = ""
    breakdown: ClassVar[str] = ""
    cost: ClassVar[str] = ""

    def __init__(self, f: int | float = 0) -> None:
        self.f = check_f(f, type(self).__name__)

    @property
    def uses_f(self) -> bool:
        """Whether f has a say in what the stage does."""
        return self.takes_f

    def least_rows(self, f: int) -> int:
        """Smallest number of rows that the stage accepts for this f."""
        return 2 * f + 1 if self.takes_f else 1

    def resolve_f(self, n: int) -> int:
        """Return f as a number of rows out of n."""
        return resolve_f(self.f, n)

    def check_rows(self, rows: int, f: int, n: int) -> None:
        """Raise ValueError where the stage cannot work on this number of rows, out of n that come into the chain."""
        least = self.least_rows(f)
        if rows < least:
            raise ValueError(
                f"{self!r} was given n = {rows} rows with f = {f}, but it needs {self.requirement}, so at least "
                f"{least} rows: take a smaller f or wait for more rows."
            )

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments, for ``repr``."""
        return {"f": self.f} if self.takes_f else {}

    def reset(self) -> None:  # noqa: B027 - most stages keep nothing and have nothing to forget
        """Forget what was kept from earlier calls."""

    def state(self) -> State:
        """Return what is kept between calls, as arrays by name, which never change."""
        return {}

    def load_state(self, state: State) -> None:
        """Take over what `state` returned.

        Raises
        ------
        ValueError
            If it is another stage's state.
        """
        if state:
            raise ValueError(
                f"{self!r} keeps no state, but was given {sorted(state)}; load the state of the same chain."
            )

    def undo(self) -> Callable[[], None]:
        """Return a function that takes back what calls that raise have changed since.

        A stage that remembers models, and changes them after all that may raise, spares their copies here.
        """
        state = self.state()
        return lambda: self.load_state(state)

    def __repr__(self) -> str:
        """Return the call that makes this stage."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.options().items())
        return f"{type(self).__name__}({arguments})"


def undo_all(stages: Iterable[Stage]) -> Callable[[], None]:
    """Return a function that takes back what failed calls have changed in these stages; see `Stage.undo`."""
    undos = [stage.undo() for stage in stages]

    def undo() -> None:
        for function in undos:
            function()

    return undo


class GaveUpError(ValueError):
    """A rule gave up on these rows: a matter of what nodes sent, so strategies skip the round."""


class PreAggregation(Stage):
    """A linear map of the rows: ``(n, d) -> (n', d)``."""

    @abstractmethod
    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry:
        """Return the rows after this stage."""

    def rows_after(self, rows: int, f: int) -> int:
        """Return the number of rows that come out of this many."""
        return rows

    def __call__(self, X: Any, layers: Layers | None = None) -> Any:
        """Apply the map.

        Parameters
        ----------
        X : (n, d) NumPy array or torch tensor of floats
            One update a row; not modified.
        layers : sequence of (name, shape or size), optional
            Ignored here; rules take the same argument.

        Returns
        -------
        (n', d) array or tensor of the same kind and dtype.

        Raises
        ------
        ValueError
            If X has too few rows for f, is not 2-D, or holds NaN or infinity.
        """
        from flwr_robust.engine import transform_matrix

        return transform_matrix((self,), X)


class Rule(Stage):
    """An aggregation rule: ``(n, d) -> (d,)``."""

    @property
    def stages(self) -> tuple[PreAggregation, ...]:
        """The pre-aggregations that come before the rule."""
        return ()

    @property
    def last(self) -> Rule:
        """The rule at the end of the chain."""
        return self

    def check(self, n: int) -> None:
        """Raise ValueError, naming n, f and the requirement, where n rows are too few for the chain."""
        check_chain((*self.stages, self.last), n)

    @property
    def min_rows(self) -> int:
        """Smallest n that the chain accepts."""
        n = 1
        while not self._accepts(n):
            n += 1
        return n

    def prepare(self, n: int, trace: Trace, rows: int | None = None) -> Rule:
        """Return the rule that runs next: this one, unless it is a choice among rules.

        Parameters
        ----------
        n : int
            Rows that come into the chain, of which a fraction f is taken.
        trace : Trace
            Learns what was drawn.
        rows : int, optional
            Rows that reach this rule, where stages before it leave fewer.
        """
        return self

    def anchors(self, d: int) -> Sequence[FloatArray]:
        """Return vectors (d,) that the rule remembers and measures the rows against."""
        return ()

    def check_layers(self, layers: Sequence[Layer]) -> None:
        """Raise ValueError where the rule cannot work on a model of these layers; most take any.

        Strategies call it when a model is sent: this is a matter of configuration, not of what nodes send.
        """
        return

    @abstractmethod
    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """Return the (d,) aggregate of the rows."""

    def _accepts(self, n: int) -> bool:
        try:
            self.check(n)
        except ValueError:
            return False
        return True

    def __call__(self, X: Any, layers: Layers | None = None) -> Any:
        """Aggregate the rows of X.

        Parameters
        ----------
        X : (n, d) NumPy array or torch tensor of floats
            One update a row; not modified. Where a tensor lies on CUDA, so do the passes' blocks.
        layers : sequence of (name, shape or size), optional
            The model's arrays in column order, for rules that look at layers.

        Returns
        -------
        (d,) array or tensor of the same kind and dtype, on the same device.

        Raises
        ------
        ValueError
            If X has too few rows for f, is not 2-D, or holds NaN or infinity.
        """
        from flwr_robust.engine import aggregate_matrix

        return aggregate_matrix(self, X, layers)


class LinearRule(Rule):
    """A rule whose output is a weighted sum of the rows, with weights that depend on distances only.

    Attributes
    ----------
    norm_order : float
        The p of the distances that `weights` finds in its rows; any but 2 takes one more pass.
    planned : bool
        Whether `weights` alone makes the output, so that it can be told without the data.
    """

    norm_order: float = 2
    planned: bool = True

    @abstractmethod
    def weights(self, rows: Geometry, f: int) -> Weights:
        """Return the (m,) weights of the rows."""

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        geometry = rows.geometry
        if self.norm_order != 2:
            geometry = geometry.with_distances(rows.lp_distances(self.norm_order))
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

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        return rows.reduce(lambda block, out: self.reduce(block, f, out), tensors=self.takes_tensors)


def check_chain(stages: tuple[Stage, ...], n: int, rows: int | None = None) -> None:
    """Raise ValueError for the first stage that n incoming rows are too few for.

    A fraction f is taken of the n rows that come in, also behind a stage that leaves fewer: `rows`, where
    these stages are themselves behind others.
    """
    if n < 1:
        raise ValueError("there are no rows to aggregate: n = 0, and at least 1 is needed.")
    rows = n if rows is None else rows
    for stage in stages:
        f = stage.resolve_f(n)
        stage.check_rows(rows, f, n)
        if isinstance(stage, PreAggregation):
            rows = stage.rows_after(rows, f)
