"""How often nodes were left out lately: an exponentially weighted record by node id. No Flower in here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = dict[str, NDArray[Any]]

# Rounds for which a node is excluded, unless a user says otherwise.
FORGIVE_AFTER = 20


class Suspicion:
    """An exponentially weighted record of quarantines and zero weights.

    After a round in which node i took part, ``s_i <- decay * s_i + (1 - decay) * x_i``, where x_i is 1 if its
    update was quarantined or got the weight zero, 0 if it was used, and between them if it was used in some
    layers only. s_i starts at 0 and stays in [0, 1]; a node that did not take part keeps its value. A node
    that is left out k times in a row has at least ``1 - decay^k``.

    Parameters
    ----------
    decay : float
        In (0, 1): what is left of the past after a round. Rules that choose few updates (Krum: one) leave most
        honest nodes out of most rounds, too: compare nodes with each other before you set a threshold.
    exclude_after : float, optional
        In (0, 1]: nodes above it are candidates for exclusion; None excludes nobody.
    owner : str
        Whom error messages name.
    forgive_after : int or None
        Rounds after which an excluded node is on trial: its suspicion is `exclude_after` then, so that the next time
        that it is left out excludes it again. None: never.

    Attributes
    ----------
    values : dict of int to float
        Each node that took part, and its suspicion.
    rounds : dict of int to int
        Each node that is excluded, and for how many rounds it has been.

    Raises
    ------
    ValueError
        If a number is outside its range.

    Examples
    --------
    >>> suspicion = Suspicion(decay=0.5)
    >>> suspicion.update({7: 1.0, 8: 0.0})
    >>> suspicion.update({7: 1.0})
    >>> suspicion.values
    {7: 0.75, 8: 0.0}
    """

    def __init__(
        self,
        decay: float,
        exclude_after: float | None = None,
        owner: str = "Suspicion",
        forgive_after: int | None = FORGIVE_AFTER,
    ) -> None:
        self.decay = _fraction(decay, "suspicion", owner, "(0, 1), such as 0.9, or None to keep no record")
        self.exclude_after = exclude_after
        if exclude_after is not None:
            allowed = "(0, 1], such as 0.8, or None to exclude nobody"
            self.exclude_after = _fraction(exclude_after, "exclude_after", owner, allowed, one=True)
        if forgive_after is not None and not (type(forgive_after) is int and forgive_after > 0):
            raise ValueError(
                f"{owner} was given forgive_after = {forgive_after!r}; give a whole number of rounds above 0, such as "
                "20, or None to exclude for good."
            )
        self.forgive_after = forgive_after
        self.values: dict[int, float] = {}
        self.rounds: dict[int, int] = {}

    def __repr__(self) -> str:
        """Return the call that makes this record, empty."""
        threshold = "" if self.exclude_after is None else f", exclude_after={self.exclude_after:g}"
        if threshold and self.forgive_after != FORGIVE_AFTER:
            threshold += f", forgive_after={self.forgive_after}"
        return f"Suspicion(decay={self.decay:g}{threshold})"

    def update(self, left_out: Mapping[int, float]) -> None:
        """Take over a round: for each node that took part, 1 if it was left out, 0 if it was used."""
        for node, share in left_out.items():
            self.values[node] = self.decay * self.values.get(node, 0.0) + (1.0 - self.decay) * share

    def above(self, nodes: Iterable[int], most: int) -> list[int]:
        """Return at most this many nodes above `exclude_after`, the most suspicious first, ties by id."""
        if self.exclude_after is None:
            return []
        candidates = [node for node in set(nodes) if self.values.get(node, 0.0) > self.exclude_after]
        return sorted(candidates, key=lambda node: (-self.values[node], node))[:most]

    def forgive(self) -> list[int]:
        """Put the nodes on trial that have been excluded long enough, and return them."""
        if self.forgive_after is None or self.exclude_after is None:
            return []
        forgiven = [node for node, rounds in self.rounds.items() if rounds >= self.forgive_after]
        for node in forgiven:
            del self.rounds[node]
            self.values[node] = min(self.values.get(node, 0.0), self.exclude_after)
        return forgiven

    def count(self, excluded: Iterable[int]) -> None:
        """Count a round for the nodes that it excludes; the others begin anew."""
        self.rounds = {node: self.rounds.get(node, 0) + 1 for node in excluded}

    def reset(self) -> None:
        """Forget all nodes."""
        self.values, self.rounds = {}, {}

    def state(self) -> State:
        """Return the record as arrays by name, in the order of the node ids."""
        nodes = sorted(self.values)
        return {
            "nodes": np.array(nodes, dtype=np.uint64),
            "values": np.array([self.values[node] for node in nodes], dtype=np.float64),
            "rounds": np.array([self.rounds.get(node, 0) for node in nodes], dtype=np.int64),
        }

    def load_state(self, state: State) -> None:
        """Take over what `state` returned.

        Raises
        ------
        ValueError
            If it is no such state.
        """
        if state.keys() != {"nodes", "values", "rounds"} or len({array.shape for array in state.values()}) > 1:
            raise ValueError(
                f"the record of suspicions is kept as three arrays of one length, 'nodes', 'values' and 'rounds', "
                f"but was given {sorted(state)}; load what state() returned."
            )
        nodes, values, rounds = (state[name].tolist() for name in ("nodes", "values", "rounds"))
        wrong = [node for node, value in zip(nodes, values, strict=True) if not 0.0 <= value <= 1.0]
        if wrong:
            raise ValueError(
                f"suspicions are values in [0, 1], but the state holds others for the nodes {wrong[:10]}; "
                "load what state() returned."
            )
        self.values = dict(zip(nodes, values, strict=True))
        self.rounds = {node: count for node, count in zip(nodes, rounds, strict=True) if count}


def make_suspicion(
    decay: float | None, exclude_after: float | None, owner: str, forgive_after: int | None = FORGIVE_AFTER
) -> Suspicion | None:
    """Return a strategy's record, or None where it is off.

    Raises
    ------
    ValueError
        If a number is outside its range, or nodes are to be excluded without a record.
    """
    if decay is not None:
        return Suspicion(decay, exclude_after, owner, forgive_after)
    if exclude_after is not None:
        raise ValueError(
            f"{owner} was given exclude_after = {exclude_after!r} without suspicion, the record that it needs; "
            "give suspicion=0.9 (a decay in (0, 1)) too."
        )
    return None


def max_excluded(sampled: int, available: int, f: int, enough: Callable[[int], bool]) -> int:
    """Return how many nodes may be excluded from a round.

    Parameters
    ----------
    sampled : int
        Nodes that the round asks; others take the places of excluded ones where there are any.
    available : int
        Connected nodes.
    f : int
        At most this many.
    enough : callable
        Whether the rule can work on this number of replies.
    """
    most = min(f, available)
    while most > 0 and available - most < sampled and not enough(available - most):
        most -= 1
    return most


def _fraction(value: Any, name: str, owner: str, allowed: str, *, one: bool = False) -> float:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if number and (0.0 < value < 1.0 or (one and value == 1.0)):
        return float(value)
    raise ValueError(f"{owner} was given {name} = {value!r}; give a number in {allowed}.")
