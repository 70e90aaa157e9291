"""What a chain would make of many mixes of the same points, in two passes for all of them.

Optimised attacks ask this for each factor that they try. The Gram matrix of the points (the honest updates
and the attack's direction) is measured once; every mix of them is then planned without the data.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.cpu import Mixer, shaped
from flwr_robust.engine.device import FloatArray, Matrix, Weights
from flwr_robust.engine.lp import squared_lp_distances
from flwr_robust.engine.passes import Pass, measure
from flwr_robust.engine.rows import Geometry
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.base import CoordinateRule, LinearRule, Rule
from flwr_robust.rules.run import GaveUpError, TooFewRowsError, Trace, plan, unfold


@dataclass
class Outcomes:
    """How a chain's outputs lie to a target, one entry a mix.

    Attributes
    ----------
    errors : float64 array
        Euclidean distances ``||output - target||``; NaN where the rule gave up.
    inner_products : float64 array
        ``<output, target>``; NaN where the rule gave up.
    """

    errors: NDArray[np.float64]
    inner_products: NDArray[np.float64]

    @classmethod
    def unknown(cls, count: int) -> Outcomes:
        """Return NaN for each of `count` mixes."""
        return cls(np.full(count, np.nan), np.full(count, np.nan))


def outcomes(
    rule: Rule, points: Updates, mixes: Sequence[Matrix], target: Weights, threads: int | None = None
) -> Outcomes:
    """Return how ``rule(mix @ points)`` lies to ``target @ points`` for each mix.

    Parameters
    ----------
    rule : Rule
        A rule or chain; what it remembers and where its draws stand stays as it is.
    points : Updates
        p rows.
    mixes : sequence of (n, p) float64 arrays
        Each makes the n rows that the rule is given.
    target : (p,) float64 array
        Weights of the point to measure from.
    threads : int, optional
        See `flwr_robust.engine.cpu.for_blocks`.

    Raises
    ------
    NonFiniteRowsError
        If points hold NaN or infinity.
    ValueError
        If the rule does not accept n rows.
    """
    geometry = Geometry.of(measure(points, threads=threads))
    found = Outcomes(np.zeros(len(mixes)), np.zeros(len(mixes)))
    reduced: list[tuple[int, CoordinateRule, Matrix, int]] = []
    rule = copy.deepcopy(rule)  # MixTailor keeps what it drew last
    for k, mix in enumerate(mixes):
        n, trace = len(mix), Trace()
        rule.require_rows(n)
        stages, last = unfold(rule, n, n, trace)
        f = last.resolve_f(n)
        try:
            rows = plan(stages, _mixed(geometry, mix), n, trace)
            last.require_rows_for(rows.count, f, n)
        except TooFewRowsError:
            # A stage that leaves rows out has left too few.
            found.errors[k] = found.inner_products[k] = np.nan
            continue
        if isinstance(last, LinearRule):
            if last.p != 2:
                rows = rows.with_distances(squared_lp_distances(points, rows.mixing, last.p, threads))
            try:
                weights = last.weights(rows, f) @ rows.mixing
            except GaveUpError:
                found.errors[k] = found.inner_products[k] = np.nan
                continue
            found.errors[k], found.inner_products[k] = _compare(geometry, weights, target)
        elif isinstance(last, CoordinateRule):
            reduced.append((k, last, rows.mixing, f))
        else:
            raise TypeError(f"{last!r} cannot be planned; ask `can_plan` first.")
    if reduced:
        places = [k for k, *_ in reduced]
        make = partial(_Reductions, reduced=reduced, target=target, dtype=points.dtype)
        data = Pass(points, points.device, threads=threads)
        sums = data.read(lambda block, _, sums: sums.add(block), make, _merge)
        found.errors[places] = np.sqrt(sums.squares)
        found.inner_products[places] = sums.products
    return found


def can_plan(rule: Rule) -> bool:
    """Whether `outcomes` knows how to plan this rule: it is linear or works on each coordinate."""
    last = rule.last
    return last.planned if isinstance(last, LinearRule) else isinstance(last, CoordinateRule)


def _mixed(geometry: Geometry, mix: Matrix) -> Geometry:
    """Geometry of ``mix @ points``; the origin takes what the weights of a row lack of one."""
    return Geometry(geometry.gram, np.column_stack([mix, 1.0 - mix.sum(axis=1)]), geometry.unit)


def _compare(geometry: Geometry, weights: Weights, target: Weights) -> tuple[float, float]:
    """Return distance and inner product of two weighted sums of the points."""
    output, aim = (np.append(w, -w.sum()) for w in (weights, target))  # relative to the origin, the last point
    difference, unit = output - aim, geometry.unit
    error = max(float(difference @ geometry.gram @ difference), 0.0) ** 0.5 * unit
    return error, float(output @ geometry.gram @ aim) * unit**2


class _Reductions:
    """What coordinate-wise rules make of each mix; the block stays in cache for all of them."""

    def __init__(
        self, width: int, reduced: Sequence[tuple[int, CoordinateRule, Matrix, int]], target: Weights, dtype: Any
    ) -> None:
        self.target = target
        self.reduced = [(rule, Mixer(mixing), f) for _, rule, mixing, f in reduced]
        self.mixed = np.empty(max(len(mixing) for _, _, mixing, _ in reduced) * width, dtype)
        self.squares, self.products = np.zeros(len(reduced)), np.zeros(len(reduced))
        self.result = np.empty(width)

    def add(self, block: FloatArray) -> None:
        columns = block.shape[1]
        result, aim = self.result[:columns], self.target @ block
        for k, (rule, mixer, f) in enumerate(self.reduced):
            mixed = shaped(self.mixed, len(mixer.matrix), columns)
            mixer(block, mixed)
            rule.reduce(mixed, f, result)
            self.squares[k] += float(np.square(result - aim).sum())
            self.products[k] += float(result @ aim)


def _merge(total: _Reductions, found: _Reductions) -> None:
    total.squares += found.squares
    total.products += found.products
