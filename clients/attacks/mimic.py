"""Mimic: all attackers copy one honest node, which then outweighs the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rules.checks import whole_number

from .base import Attack
from .moments import Matrix, Vector, column_blocks, column_means, inner_products
from .sight import Sight


class ScatterTracker:
    """Follow the direction in which honest updates differ most, over rounds, by Oja's method.

    After round t (0, 1, ...) with the round's mean m_t,
    ``mu_t = t/(1+t) mu_{t-1} + 1/(1+t) m_t`` and
    ``z_t ~ t/(1+t) z_{t-1} + 1/(1+t) S_t z_{t-1} / ||S_t z_{t-1}||``, normalised, where
    ``S_t z = sum_i <x_i - mu_t, z> (x_i - mu_t)`` (Karimireddy et al., 2022). The scatter's image is
    normalised before it is averaged, as its authors' code does: otherwise the step would depend on the unit
    of the updates. The first z is the exact top direction of the first round's scatter, which takes no draw.

    Attributes
    ----------
    rounds : int
        Rounds seen.
    direction : (d,) float64 array or None
        z, of length 1.
    projections : dict
        For each node the sum over rounds of ``<x_i, z_t>``, with the z of that round: no update is kept.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all rounds."""
        self.rounds = 0
        self.mean: Vector | None = None
        self.direction: Vector | None = None
        self.projections: defaultdict[Hashable, float] = defaultdict(float)

    def update(self, honest: Matrix, ids: Sequence[Hashable]) -> None:
        """Add a round of (m, d) honest updates, with the names of their nodes."""
        weight = 1 / (1 + self.rounds)
        means = column_means(honest)
        self.mean = means if self.mean is None else (1 - weight) * self.mean + weight * means
        if self.direction is None:
            self.direction = _unit(_combine(honest, self.mean, _top_eigenvector(honest, self.mean)))
        else:
            image = _combine(honest, self.mean, _project(honest, self.mean, self.direction))
            self.direction = _unit((1 - weight) * self.direction + weight * _unit(image))
        for name, projection in zip(ids, _project(honest, np.zeros_like(means), self.direction), strict=True):
            self.projections[name] += float(projection)
        self.rounds += 1


@dataclass(frozen=True)
class Mimic(Attack):
    """Copy one honest node: ``b = x_{i*}`` (NNM 14.3, ARC D.3; heuristic of Karimireddy et al., 2022).

    During the first `warmup` rounds the node is any fixed one (the first row of the first round) while
    `ScatterTracker` follows the top direction z of the honest updates' scatter; from then on it is
    ``i* = argmax_i |sum over warm-up rounds of <x_i, z>|``. In a round where that node takes no part, the
    best of those that do is copied.

    Parameters
    ----------
    warmup : int
        Rounds of warm-up; 0 leaves out the heuristic and copies the fixed node for ever.

    Notes
    -----
    Keeps state between rounds: pass ``ids=`` where nodes are sampled, use one object a run, or `reset` it.

    Examples
    --------
    >>> Mimic(warmup=1)(np.array([[1.0, 2.0], [3.0, 4.0]]), f=1)
    array([[1., 2.]])
    """

    warmup: int = 10

    knows = "honest"
    _tracker: ScatterTracker = field(default_factory=ScatterTracker, init=False, repr=False, compare=False)
    _fixed: list[Hashable] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole_number(self.warmup, "warmup", "Mimic", at_least=0)

    def reset(self) -> None:
        """Forget the warm-up and the chosen node."""
        self._tracker.reset()
        self._fixed.clear()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the warm-up's statistics; nodes must have whole numbers as ids, as Flower's have."""
        tracker = self._tracker
        if tracker.mean is None or tracker.direction is None:
            return {}
        return {
            "rounds": np.array(tracker.rounds),
            "mean": tracker.mean.copy(),
            "direction": tracker.direction.copy(),
            "ids": np.array(list(tracker.projections), dtype=np.uint64),
            "projections": np.array(list(tracker.projections.values())),
            "fixed": np.array(self._fixed, dtype=np.uint64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.reset()
        if not state:
            return
        if state.keys() != {"rounds", "mean", "direction", "ids", "projections", "fixed"}:
            raise ValueError(f"{self!r} was given the state {sorted(state)}; load that of the same attack.")
        tracker = self._tracker
        tracker.rounds, tracker.mean, tracker.direction = int(state["rounds"]), state["mean"], state["direction"]
        tracker.projections.update(zip(state["ids"].tolist(), state["projections"].tolist(), strict=True))
        self._fixed.extend(state["fixed"].tolist())

    def craft(self, sight: Sight) -> Matrix:
        """Return copies of a node's update; attackers that see no honest one send their own."""
        honest, ids = sight.honest, sight.ids
        if not len(honest):
            return sight.own
        if not self._fixed:
            self._fixed.append(ids[0])
        warming_up = self._tracker.rounds < self.warmup
        if warming_up:
            self._tracker.update(honest, ids)
        row = self._fixed_row(ids) if warming_up or self.warmup == 0 else self._chosen_row(ids)
        return np.repeat(honest[row : row + 1], sight.f, axis=0)

    def _fixed_row(self, ids: Sequence[Hashable]) -> int:
        return ids.index(self._fixed[0]) if self._fixed[0] in ids else 0

    def _chosen_row(self, ids: Sequence[Hashable]) -> int:
        projections = self._tracker.projections
        return int(np.argmax([abs(projections.get(name, 0.0)) for name in ids]))


def _project(rows: Matrix, centre: Vector, direction: Vector) -> Vector:
    """Return the (m,) inner products of the centred rows with a direction."""
    products = np.zeros(len(rows))
    for block in column_blocks(rows.shape[1]):
        products += (rows[:, block] - centre[block]) @ direction[block]
    return products


def _combine(rows: Matrix, centre: Vector, weights: Vector) -> Vector:
    """Return the (d,) sum of the centred rows with these weights."""
    total = np.empty(rows.shape[1])
    for block in column_blocks(rows.shape[1]):
        total[block] = weights @ (rows[:, block] - centre[block])
    return total


def _top_eigenvector(rows: Matrix, centre: Vector) -> Vector:
    """Return the (m,) weights of the rows that make the top direction of their scatter."""
    gram = inner_products(rows, centre)
    eigenvectors: Vector = np.linalg.eigh(gram)[1]
    return eigenvectors[:, -1]


def _unit(vector: Vector) -> Vector:
    """Return the vector at length 1; rows that all agree have no direction, and zero stays zero."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
