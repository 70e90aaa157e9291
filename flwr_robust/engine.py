"""Two passes over the data, whatever the chain: measure the rows, plan in n x n space, combine.

1. `measure` reads all columns once and returns a `Geometry` (Gram matrix of the rows, float64).
2. The stages plan on it and leave an (m, n) mixing matrix, and weights where the rule is linear.
3. `combine` (linear rules) or `reduce` (coordinate-wise rules) reads the columns once more.

A chain that needs no distances skips the first pass. Rows whose spread is under a thousandth of their
norm are measured a second time, relative to one of them: otherwise their distances would drown in rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.geometry import Geometry
from flwr_robust.passes import measure, measure_norms, mix_rows
from flwr_robust.rows import Rows
from flwr_robust.rules.base import (
    Needs,
    PreAggregation,
    Rule,
    Stage,
    Trace,
    Weights,
    check_chain,
)
from flwr_robust.updates import DenseUpdates, FloatArray, Layers, StackedUpdates, TorchUpdates, Updates


@dataclass
class Aggregate:
    """The outcome of a chain.

    Attributes
    ----------
    vector : (d,) array
        The aggregate, in the updates' dtype.
    norms : (n,) float64 array
        Euclidean norm of each row as it came in.
    weights : (n,) float64 array or None
        Weight of each row in the aggregate; None where it differs between coordinates.
    used : (n,) float64 array or None
        Share of the layers in which each row counted; None unless the rule filters without weights.
    trace : Trace
        Clipping and draws.
    passes : int
        How often the data were read.
    """

    vector: FloatArray
    norms: NDArray[np.float64]
    weights: Weights | None
    trace: Trace
    passes: int
    used: Weights | None = None


def aggregate(
    rule: Rule,
    updates: Updates,
    threads: int | None = None,
    check: Callable[[NDArray[np.float64]], None] | None = None,
) -> Aggregate:
    """Run a rule or chain on updates.

    Parameters
    ----------
    rule : Rule
        With its pre-aggregations, if any.
    updates : Updates
        One a row.
    threads : int, optional
        As `for_blocks` has them.
    check : callable, optional
        Gets the norms of the updates as soon as they are known, and raises what it finds wrong: before the rule
        remembers anything of them, unless the chain works without norms.

    Raises
    ------
    NonFiniteRowsError
        If rows hold NaN or infinity.
    ValueError
        If there are too few rows for the chain.
    """
    n, trace = updates.n, Trace()
    rule.check(n)
    rule = rule.prepare(n, trace)
    stages, last = rule.stages, rule.last
    anchors = last.anchors(updates.d)
    points = StackedUpdates(updates, anchors) if anchors else updates
    geometry, passes = look(points, what_is_needed((*stages, last)), threads)
    geometry = geometry.first(n)
    norms = geometry.norms * geometry.unit if passes else None
    if check is not None and norms is not None:
        check(norms)
    rows = Rows(
        points,
        plan(stages, geometry, n, trace),
        anchors=len(anchors),
        mixed=bool(stages or anchors),
        update_norms=norms,
        passes=passes,
        threads=threads,
    )
    vector = last.aggregate(rows, last.resolve_f(n))
    assert rows.update_norms is not None
    if check is not None and norms is None:
        check(rows.update_norms)
    return Aggregate(vector, rows.update_norms, rows.weights, trace, rows.passes, rows.used)


def plan(stages: Sequence[PreAggregation], rows: Geometry, n: int, trace: Trace) -> Geometry:
    """Apply the stages to the geometry of n incoming rows."""
    for stage in stages:
        rows = stage.transform(rows, stage.resolve_f(n), trace)
    return rows


def what_is_needed(stages: Sequence[Stage]) -> Needs:
    """Return what must be known of the incoming rows: norms of mixed rows take all distances."""
    needed, mixed = Needs.NOTHING, False
    for stage in stages:
        need = Needs.DISTANCES if mixed and stage.needs is Needs.NORMS else stage.needs
        needed = max(needed, need)
        mixed = mixed or stage.mixes
    return needed


def look(updates: Updates, needs: Needs, threads: int | None = None) -> tuple[Geometry, int]:
    """Return the geometry as far as it is needed, and how many passes over the data that took."""
    n = updates.n
    if needs is Needs.NOTHING:
        return Geometry(np.zeros((n + 1, n + 1))), 0
    if needs is Needs.DISTANCES:
        return measure(updates, threads)
    return measure_norms(updates, threads)


def aggregate_matrix(rule: Rule, X: Any, layers: Layers | None = None) -> Any:
    """Run a rule on a NumPy array or torch tensor, and return the same kind."""
    updates = as_updates(X, layers)
    return _like(aggregate(rule, updates).vector, X)


def transform_matrix(stages: Sequence[PreAggregation], X: Any) -> Any:
    """Apply pre-aggregations to a NumPy array or torch tensor, and return the same kind."""
    updates = as_updates(X)
    check_chain(tuple(stages), updates.n)
    geometry, passes = look(updates, what_is_needed(stages))
    if not passes:
        look(updates, Needs.NORMS)
    mixing = plan(stages, geometry, updates.n, Trace()).mixing
    return _like(mix_rows(updates, mixing), X)


def is_tensor(X: Any) -> bool:
    """Whether X is a torch tensor, found out without importing torch."""
    return type(X).__module__.partition(".")[0] == "torch" and hasattr(X, "detach")


def as_updates(X: Any, layers: Layers | None = None) -> Updates:
    """Return a view of an (n, d) array or tensor as `Updates`.

    Raises
    ------
    ValueError
        If X is not 2-D or not of floats.
    """
    tensor = is_tensor(X)
    matrix: Any = X if tensor else np.asarray(X)
    floating = matrix.is_floating_point() if tensor else matrix.dtype.kind == "f" and matrix.dtype.itemsize <= 8
    if matrix.ndim != 2 or not floating:
        raise ValueError(
            f"rules take an (n, d) array or tensor of floats up to 64 bits, one update a row; "
            f"got shape {tuple(matrix.shape)} of {matrix.dtype}."
        )
    return TorchUpdates(matrix, layers) if tensor else DenseUpdates(matrix, layers)


def _like(result: FloatArray, X: Any) -> Any:
    if not is_tensor(X):
        return result.astype(np.asarray(X).dtype, copy=False)
    import torch

    return torch.from_numpy(result).to(dtype=X.dtype, device=X.device)
