"""Which nodes are malicious in a round, and which of the honest ones they observe."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from flwr_robust.rules.base import resolve_f
from flwr_robust.rules.checks import is_whole, number, whole_number

Nodes = Callable[[], Iterable[int]]

# Keeps the draw of observed nodes apart from that of malicious ones.
_OBSERVED = 1


class Roles:
    """Divides the nodes of a grid into malicious and honest ones.

    Parameters
    ----------
    nodes : callable
        Returns the grid's node ids.
    malicious : iterable of int, int or float
        Node ids; or how many nodes, or which fraction of them in [0, 1] (floored).
    sees : float or None
        Fraction of a round's honest updates that the malicious nodes see (floored); None: all.
    redraw : bool
        Draw the malicious nodes anew in each round instead of once.
    seed : int or None
        Seed of the draws; None: from the operating system.

    Raises
    ------
    ValueError
        If an argument is none of these.
    """

    def __init__(self, nodes: Nodes, malicious: Any, sees: float | None, redraw: bool, seed: int | None) -> None:
        self._nodes = nodes
        self._share = _ids_or_share(malicious)
        self._sees = None if sees is None else number(sees, "sees", "Adversary", at_least=0, at_most=1)
        if redraw and isinstance(self._share, frozenset):
            raise ValueError(
                "Adversary was given redraw = True with node ids; give a number or a fraction of nodes to draw anew."
            )
        self._redraw = redraw
        given = whole_number(seed, "seed", "Adversary", at_least=0, or_none=True)
        self._seed: int = secrets.randbits(64) if given is None else given
        self._drawn: frozenset[int] | None = None
        self.rounds = 0

    def begin_round(self) -> frozenset[int]:
        """Return the malicious nodes of the next round."""
        self.rounds += 1
        if self._redraw:
            self._drawn = None
        return self.malicious()

    def malicious(self) -> frozenset[int]:
        """Return the malicious nodes; draws them if that has not happened yet."""
        if isinstance(self._share, frozenset):
            return self._share
        if self._drawn is None:
            seed = [self._seed, self.rounds] if self._redraw else self._seed
            self._drawn = _draw(self._share, _in_order(self._nodes()), np.random.default_rng(seed))
        return self._drawn

    def observed(self, honest: Iterable[int]) -> frozenset[int]:
        """Return those of a round's honest nodes whose updates the malicious nodes see: the same ones, if they can."""
        present = list(honest)
        if self._sees is None:
            return frozenset(present)
        nodes = _in_order(self._nodes())
        chances = np.random.default_rng([self._seed, 0, _OBSERVED]).random(len(nodes))
        ranks = dict(zip(nodes, chances.tolist(), strict=True))
        present.sort(key=lambda node: ranks.get(node, 1.0))
        return frozenset(present[: resolve_f(self._sees, len(present))])


def _in_order(nodes: Iterable[int]) -> list[int]:
    """Return the nodes in the grid's order, ascending where it has none."""
    return list(nodes) if isinstance(nodes, Sequence) else sorted(nodes)


def _ids_or_share(malicious: Any) -> frozenset[int] | int | float:
    """Return a set of node ids, a number of nodes or a fraction of them.

    Raises
    ------
    ValueError
        If `malicious` is none of these.
    """
    if is_whole(malicious) and malicious >= 0:
        return int(malicious)
    if isinstance(malicious, float | np.floating) and 0 <= malicious <= 1:
        return float(malicious)
    if isinstance(malicious, Iterable) and not isinstance(malicious, str | bytes):
        ids = list(malicious)
        if all(map(is_whole, ids)):
            return frozenset(map(int, ids))
    raise ValueError(
        f"Adversary was given malicious = {malicious!r}; give a list of node ids, a number of nodes (an "
        "int, 0 or more) or a fraction of them (a float in [0, 1])."
    )


def _draw(share: int | float, nodes: Sequence[int], random: np.random.Generator) -> frozenset[int]:
    """Draw this number of the nodes, or this fraction of them."""
    count = resolve_f(share, len(nodes))
    if count > len(nodes):
        raise ValueError(
            f"Adversary was given malicious = {share}, but the grid has {len(nodes)} nodes; give at most as "
            "many, or wait until the nodes are there."
        )
    places = random.choice(len(nodes), size=count, replace=False)
    return frozenset(nodes[place] for place in places)
