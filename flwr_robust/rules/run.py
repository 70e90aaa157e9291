"""How a chain runs: measure the rows once, plan among n x n numbers, combine the rows once.

Of rules and pre-aggregations it knows what `flwr_robust.rules.base` promises of them. Nothing that a stage remembers
has changed when a chain has run: `Trace.store` is called once nothing can fail any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.cpu import one_blas_thread
from flwr_robust.engine.device import FloatArray, Weights
from flwr_robust.engine.passes import BadRowsError, Needs, measure
from flwr_robust.engine.rows import Geometry, Rows, UnmeasuredError, mix_rows, sampled_columns
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.randomness import DRAWS, generator_at, position_of
from flwr_robust.rules.side_inputs import UNTOLD, SideInputs, Told

T = TypeVar("T")
State = dict[str, NDArray[Any]]

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# What the number of columns is called in the memory of a rule that starts again for a model of another size.
COLUMNS = "columns"


class TooFewRowsError(ValueError):
    """A stage needs more rows."""


class GaveUpError(ValueError):
    """A rule gave up on these rows: a matter of what nodes sent, so strategies skip the round."""


class StageLike(Protocol):
    """What a chain asks of each of its stages; see `flwr_robust.rules.base.Stage`."""

    @property
    def needs(self) -> Needs: ...
    @property
    def mixes(self) -> bool: ...
    @property
    def memory(self) -> Mapping[str, NDArray[Any]]: ...
    def remember(self, values: State, own: Collection[str] = ()) -> None: ...
    def resolve_f(self, n: int) -> int: ...
    def require_rows_for(self, rows: int, f: int, n: int) -> None: ...
    def rows_after(self, rows: int, f: int) -> int: ...


class MapLike(StageLike, Protocol):
    """What a chain asks of a pre-aggregation; see `flwr_robust.rules.base.PreAggregation`."""

    def transform(self, rows: Geometry, f: int, trace: Trace) -> Geometry: ...


class RuleLike(StageLike, Protocol):
    """What a chain asks of its rule; see `flwr_robust.rules.base.Rule`."""

    @property
    def requires(self) -> Sequence[str]: ...
    @property
    def optional(self) -> Sequence[str]: ...
    @property
    def remembers(self) -> Sequence[str]: ...
    @property
    def stages(self) -> Sequence[MapLike]: ...
    @property
    def last(self) -> RuleLike: ...
    def choose(self, rows: int, n: int, trace: Trace) -> RuleLike: ...
    def remembered(self, d: int) -> State: ...
    def beside(self, remembered: State, told: Told, n: int, d: int) -> Mapping[str, FloatArray]: ...
    def aggregate(self, rows: Rows, f: int) -> FloatArray: ...


@dataclass(eq=False)
class Trace:
    """What a chain did to the rows in one call, for reports; and what its stages will remember of it.

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
    kept : list of int or None
        Rows that stages have not left out; None where no stage does.
    noted : list of (stage, State, names)
        What stages will remember, and what of that nobody else holds.
    deferred : list of callable
        What is done before.
    lowered : int
        What f is lowered by, because that many malicious nodes are out already.
    """

    clip_factors: NDArray[np.float64] | None = None
    threshold: float | None = None
    drawn: list[str] = field(default_factory=list)
    rule_drawn: int | None = None
    kept: list[int] | None = None
    noted: list[tuple[StageLike, State, Collection[str]]] = field(default_factory=list)
    deferred: list[Callable[[], None]] = field(default_factory=list)
    lowered: int = 0
    _generators: dict[StageLike, np.random.Generator] = field(default_factory=dict)

    def f_of(self, stage: StageLike, n: int) -> int:
        """Return how many of n rows a stage tolerates."""
        return max(0, stage.resolve_f(n) - self.lowered)

    def generator(self, stage: StageLike) -> np.random.Generator:
        """Return the generator of a stage that remembers its draws, at the place where the last call left it."""
        if stage not in self._generators:
            self._generators[stage] = generator_at(stage.memory[DRAWS])
        return self._generators[stage]

    def store(self) -> None:
        """Let the stages remember: after the last step that can fail."""
        while self.deferred:
            self.deferred.pop(0)()
        for stage, generator in self._generators.items():
            stage.remember({DRAWS: position_of(generator)})
        for stage, values, own in self.noted:
            stage.remember(values, own)


@dataclass(frozen=True)
class Evidence:
    """What is seen of the rows in some coordinates, always the same, spread over all arrays: all where there are few.

    Attributes
    ----------
    weights : (n,) float64 array or None
        Mean coefficient of each row in the aggregate, clip factors apart.
    exact, spread : bool
        Whether these are the mean over all coordinates, and whether they differ between them.
    distances : (n,) float64 array
        Distance of each row from the aggregate, in units of their median.
    cosines : (n,) float64 array
        Cosine between each row and the aggregate; NaN where either is zero.
    """

    weights: Weights | None
    exact: bool
    spread: bool
    distances: NDArray[np.float64]
    cosines: NDArray[np.float64]


@dataclass
class Aggregate:
    """The outcome of a chain.

    Attributes
    ----------
    vector : (d,) array
        The aggregate, in the updates' dtype; nobody else holds it, unless a stage has noted it.
    norms : (n,) float64 array
        Euclidean norm of each row as it came in.
    weights : (n,) float64 array or None
        Weight of each row in the aggregate; None where it differs between coordinates.
    trace : Trace
        Clipping and draws; and what the stages will remember, once its `store` is called.
    passes : int
        How often the data were read.
    used : (n,) float64 array or None
        Share of the layers in which each row counted; None unless the rule filters without weights.
    evidence : Evidence or None
        None unless it was asked for.
    """

    vector: FloatArray
    norms: NDArray[np.float64]
    weights: Weights | None
    trace: Trace
    passes: int
    used: Weights | None = None
    evidence: Evidence | None = None


@dataclass
class Mixed:
    """The outcome of pre-aggregations alone: (m, d) rows, and `norms` and `trace` as in `Aggregate`."""

    rows: FloatArray
    norms: NDArray[np.float64]
    trace: Trace


@dataclass(frozen=True)
class BadRows:
    """Rows without which the chain has to run again, and what is wrong with their arrays."""

    rows: Sequence[int]
    fault: str


@dataclass(frozen=True)
class Skipped:
    """Why nothing came out."""

    reason: str


def outcome_of(work: Callable[[], T]) -> T | BadRows | Skipped:
    """Return what the work gives, or as a value what it raises because of the rows that nodes sent."""
    try:
        return work()
    except BadRowsError as error:
        return BadRows(error.rows, error.fault)
    except (TooFewRowsError, GaveUpError) as error:
        return Skipped(str(error))


def run(
    rule: RuleLike,
    updates: Updates,
    threads: int | None = None,
    *,
    float32_only: bool = False,
    proved: int = 0,
    side: SideInputs | None = None,
    evidence: bool = False,
) -> Aggregate:
    """Run a rule or chain on updates.

    Parameters
    ----------
    rule : Rule
        With its pre-aggregations, if any.
    updates : Updates
        One a row.
    threads : int, optional
        See `flwr_robust.engine.cpu.for_blocks`.
    float32_only : bool
        Whether rows whose norm has no float32 are bad ones.
    proved : int
        Malicious nodes that are known and have no row: where there would be too few rows, f is lowered by their number.
    side : SideInputs, optional
        What the rule may be told beside the rows.
    evidence : bool
        Whether to look at the rows beside the aggregate, in a sample of the coordinates.

    Raises
    ------
    BadRowsError, TooFewRowsError, GaveUpError
        ValueErrors: if rows hold NaN or infinity (or values beyond float32, where that counts), the chain needs more
        rows, or a rule gives up on these.
    ValueError
        If a side input that the rule reads is wrong, or a required one is missing.
    """
    n, stages = updates.n, (*rule.stages, rule.last)
    trace = Trace(lowered=_lowered(stages, n, proved))
    require_rows(stages, n, lowered=trace.lowered)
    with one_blas_thread():
        return _run(rule, updates, n, trace, threads, float32_only, side or SideInputs(), evidence)


def _run(
    rule: RuleLike,
    updates: Updates,
    n: int,
    trace: Trace,
    threads: int | None,
    float32_only: bool,
    side: SideInputs,
    evidence: bool,
) -> Aggregate:
    stages, last = unfold(rule, n, n, trace)
    reads, told = bool(last.requires or last.optional), UNTOLD
    if reads:
        nodes = not any(stage.mixes for stage in stages)
        told = side.read_by(last, n, updates.d, updates.dtype, rows_are_nodes=nodes)
    remembered = last.remembered(updates.d)
    vectors = last.beside(remembered, told, n, updates.d)
    points = updates.stacked(list(vectors.values())) if vectors else updates
    points, geometry, norms, passes = _prepare(stages, [last], points, n, trace, threads, float32_only)
    rows = Rows(
        points,
        geometry,
        n,
        list(vectors),
        remembered=remembered,
        names=told.names_of(geometry.count, trace.kept) if reads else (),
        given=told.vectors,
        mixed=bool(stages or vectors),
        norms=norms,
        passes=passes,
        threads=threads,
        generator=lambda: trace.generator(last),
    )
    f = trace.f_of(last, n)
    # A stage that leaves rows out may have left too few.
    last.require_rows_for(rows.count, f, n)
    with _naming(last):
        vector = last.aggregate(rows, f)
    if not type(last).__module__.startswith("flwr_robust."):
        # A rule of the user's may return what it keeps: whoever gets the aggregate may overwrite it.
        vector = np.array(vector, dtype=updates.dtype)
        if vector.shape != (updates.d,):
            raise ValueError(f"{last!r} returned an array of shape {vector.shape}; return one of ({updates.d},).")
    if rows.norms is None:
        # A rule of the user's has not read every column: what the others hold is still to be checked.
        *_, rows.norms, more = measure(updates, Needs.NORMS, threads)
        rows.passes += more
    assert rows.norms is not None
    if float32_only and norms is None:
        _refuse_beyond_float32(rows.norms)
    if COLUMNS in last.remembers:
        rows.remember(**{COLUMNS: np.array(updates.d)})
    trace.noted.append((last, rows.noted, rows.own))
    trace.deferred = rows.deferred
    seen = _look(rows, vector) if evidence and updates.d else None
    return Aggregate(vector, rows.norms, rows.weights, trace, rows.passes, rows.used, seen)


def _look(rows: Rows, vector: FloatArray) -> Evidence:
    """Return what is seen of the rows in a sample of the coordinates, some of them at a time."""
    assert rows.norms is not None
    n, spread, count = rows.n, rows.weights is None, 0
    found, far, lengths, products, own_length = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), 0.0
    told = True
    # Squares of huge values overflow: only ratios count.
    largest = float(np.abs(vector[sampled_columns(rows.d)]).max(initial=0.0))
    unit = max(float(rows.norms.max(initial=0.0)), largest) or 1.0
    for columns, taken in rows.sample():
        weights = rows.weights_in(taken) if spread else rows.apart
        told = told and weights is not None
        found += len(columns) * weights if weights is not None else 0.0
        own, aggregate = taken[:n] / unit, vector[columns].astype(np.float64) / unit
        products, lengths = products + own @ aggregate, lengths + np.einsum("ij,ij->i", own, own)
        own_length, count = own_length + float(aggregate @ aggregate), count + len(columns)
        own -= aggregate
        far += np.einsum("ij,ij->i", own, own)
    cosines, norms, distances = np.full(n, np.nan), np.sqrt(lengths) * own_length**0.5, np.sqrt(far)
    np.divide(products, norms, out=cosines, where=norms > 0)
    middle = float(np.median(distances))
    exact = count == rows.d if rows.shares_are_exact is None else rows.shares_are_exact
    weights = found / count if told else None
    distances = distances / middle if middle else distances
    return Evidence(weights, exact or not spread, spread, distances, np.clip(cosines, -1.0, 1.0))


def mix(
    stages: Sequence[MapLike],
    updates: Updates,
    threads: int | None = None,
    *,
    float32_only: bool = False,
    proved: int = 0,
) -> Mixed:
    """Run pre-aggregations alone; arguments and errors are those of `run`."""
    n = updates.n
    trace = Trace(lowered=_lowered(stages, n, proved))
    require_rows(stages, n, lowered=trace.lowered)
    with one_blas_thread():
        return _mix(stages, updates, n, trace, threads, float32_only)


def _mix(
    stages: Sequence[MapLike], updates: Updates, n: int, trace: Trace, threads: int | None, float32_only: bool
) -> Mixed:
    points, geometry, norms, _ = _prepare(stages, [], updates, n, trace, threads, float32_only)
    if norms is None:
        norms = measure(updates, Needs.NORMS, threads).norms
        assert norms is not None
        if float32_only:
            _refuse_beyond_float32(norms)
    return Mixed(mix_rows(points, geometry.mixing, threads), norms, trace)


def _lowered(stages: Sequence[StageLike], n: int, proved: int) -> int:
    """Return what f is lowered by: nothing, unless the stages lack rows otherwise.

    More than f malicious nodes are more than were reckoned with: then nobody knows how many others there are.
    """
    if proved > max((stage.resolve_f(n) for stage in stages), default=0):
        return 0
    try:
        require_rows(stages, n)
    except TooFewRowsError:
        return proved
    return 0


def require_rows(stages: Iterable[StageLike], n: int, rows: int | None = None, lowered: int = 0) -> None:
    """Raise TooFewRowsError for the first stage that n incoming rows are too few for.

    A fraction f is taken of the n rows that come in, also behind a stage that leaves fewer: `rows`, where
    these stages are themselves behind others.
    """
    if n < 1:
        raise TooFewRowsError("there are no rows to aggregate: n = 0, and at least 1 is needed.")
    rows = n if rows is None else rows
    for stage in stages:
        f = max(0, stage.resolve_f(n) - lowered)
        stage.require_rows_for(rows, f, n)
        rows = stage.rows_after(rows, f)


def unfold(rule: RuleLike, rows: int, n: int, trace: Trace) -> tuple[list[MapLike], RuleLike]:
    """Return the stages and the last rule that run, where a rule may be a choice among chains."""
    stages = list(rule.stages)
    for stage in stages:
        rows = stage.rows_after(rows, trace.f_of(stage, n))
    chosen = rule.last.choose(rows, n, trace)
    if chosen is rule.last:
        return stages, chosen
    more, last = unfold(chosen, rows, n, trace)
    return stages + more, last


def plan(stages: Iterable[MapLike], rows: Geometry, n: int, trace: Trace) -> Geometry:
    """Apply the stages to the geometry of n incoming rows."""
    for stage in stages:
        f = trace.f_of(stage, n)
        stage.require_rows_for(rows.count, f, n)
        with _naming(stage):
            rows = stage.transform(rows, f, trace)
    return rows


def _prepare(
    stages: Sequence[MapLike],
    last: Sequence[StageLike],
    points: Updates,
    n: int,
    trace: Trace,
    threads: int | None,
    float32_only: bool,
) -> tuple[Updates, Geometry, NDArray[np.float64] | None, int]:
    """Measure the points (n updates, and vectors below them), and plan the stages.

    Stages that read neither norms nor distances are applied first: what they mix is measured as it comes out.

    Returns
    -------
    The points that the geometry is of, the geometry, the norms of the n updates if they are known, and the passes.
    """
    vectors = points.n - n
    blind = list(takewhile(_looks_at_nothing, stages))
    if blind:
        points = _mix_first(
            points, plan(blind, Geometry.of(measure(points, Needs.NOTHING)).first(n), n, trace), vectors
        )
    needs = _what_is_needed([*stages[len(blind) :], *last])
    measured = measure(points, needs, threads)
    norms, passes = None if measured.norms is None else measured.norms[:n], measured.passes
    if norms is not None and float32_only:
        _refuse_beyond_float32(norms)
    geometry = Geometry.of(measured).first(points.count - vectors)
    for stage in stages[len(blind) :]:
        geometry = plan([stage], geometry, n, trace)
        if _looks_at_nothing(stage) and geometry.is_blurred:
            points = _mix_first(points, geometry, vectors)
            measured = measure(points, needs, threads)
            geometry, passes = Geometry.of(measured).first(points.count - vectors), passes + measured.passes
    return points, geometry, norms, passes


def _looks_at_nothing(stage: StageLike) -> bool:
    return stage.mixes and stage.needs is Needs.NOTHING


def _mix_first(points: Updates, geometry: Geometry, vectors: int) -> Updates:
    """Return points that passes mix as the geometry does; the vectors below them stay as they are."""
    return points.mixed(np.vstack([geometry.mixing, np.eye(points.count)[points.count - vectors :]]))


def _what_is_needed(stages: Iterable[StageLike]) -> Needs:
    """Return what must be known of the rows before the first stage: norms of mixed rows take all distances."""
    needed, mixed = Needs.NOTHING, False
    for stage in stages:
        needed = max(needed, Needs.DISTANCES if mixed and stage.needs is Needs.NORMS else stage.needs)
        mixed = mixed or stage.mixes
    return needed


def _refuse_beyond_float32(norms: NDArray[np.float64]) -> None:
    beyond = np.flatnonzero(norms > LARGEST_FLOAT32).tolist()
    if beyond:
        raise BadRowsError(beyond, "the arrays hold values beyond float32")


@contextmanager
def _naming(stage: StageLike) -> Iterator[None]:
    """Name the stage that reads what was not measured, and the declaration that is missing."""
    try:
        yield
    except UnmeasuredError as error:
        what, missing = error.needs.name.lower(), error.needs > stage.needs
        raise ValueError(
            f"{type(stage).__name__} reads {what} "
            + (
                f"but declares needs = Needs.{stage.needs.name}: write needs = Needs.{error.needs.name} in the class."
                if missing
                else "of rows that a stage before it mixes: write mixes = True in that stage's class."
            )
        ) from error
