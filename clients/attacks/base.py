"""What every attack has in common: its call, its state, and arrays in and out."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.choose import like
from flwr_robust.rules.checks import whole_number

from .moments import Matrix, Vector
from .sight import Rule, Sight

Knowledge = Literal["own", "honest", "rule", "data"]
Rows = TypeVar("Rows")


class Attack(ABC):
    """Honest updates of a round -> malicious updates.

    Attributes
    ----------
    knows : {"own", "honest", "rule", "data"}
        What the attackers must know: only what they hold themselves, the honest updates, also the server's
        rule, or nothing because they poison their own data. On a class: what its defaults need.
    follows_model : bool
        Whether the last move of the global model (`previous`) counts.
    makes_updates : bool
        Whether the attack is a matter of updates: not where nodes poison their data, or send no usable reply.
    """

    knows: Knowledge
    makes_updates: ClassVar[bool] = True
    follows_model: ClassVar[bool] = False

    def __call__(
        self,
        honest: Rows,
        f: int,
        rule: Rule | None = None,
        *,
        ids: Sequence[Hashable] | None = None,
        own: Rows | None = None,
        unseen: int = 0,
        previous: Any = None,
    ) -> Rows:
        """Make the updates of f malicious nodes.

        Parameters
        ----------
        honest : (m, d) float array or torch tensor
            The honest updates that the attackers see, one a row; not modified. At least one, unless `own` is
            given.
        f : int
            Number of malicious nodes, 0 or more.
        rule : callable, optional
            The server's aggregation, ``(n, d) -> (d,)``; for attacks that know it.
        ids : sequence of hashable, optional
            Names of the honest rows, for attacks that follow nodes from round to round, because not every
            node takes part in each round. Default: the row numbers.
        own : (f, d) array or tensor, optional
            What the malicious nodes' own honest training gave. Default: the mean of the honest updates.
        unseen : int
            Honest updates of the round that the attackers do not see. The mean of those that they know, their own
            included, stands for each (MixTailor A.1.2).
        previous : (d,) array or tensor, optional
            The last move of the global model, which every node can see: the model that was sent now minus the one that
            was sent in the round before.

        Returns
        -------
        (f, d) array or tensor of the same kind, dtype and device.

        Raises
        ------
        ValueError
            If the rows, f, the ids, the number of unseen updates or the last move are not as described.
        """
        owner = type(self).__name__
        rows, trained = as_rows(honest, owner), None if own is None else as_rows(own, owner)
        f = whole_number(f, "f", owner, at_least=0)
        unseen = whole_number(unseen, "unseen", owner, at_least=0)
        if trained is None and not len(rows):
            raise ValueError(f"{owner} was given no honest updates; give at least one row, or own= for the attackers'.")
        if trained is not None and trained.shape != (f, rows.shape[1]):
            raise ValueError(
                f"{owner} was given own updates of shape {trained.shape}; give (f, d) = ({f}, {rows.shape[1]})."
            )
        m, names = len(rows), range(len(rows)) if ids is None else ids
        if not len(names) == len(set(names)) == m:
            raise ValueError(
                f"{owner} was given {len(set(names))} different ids for {m} honest rows; give one id a row, each once."
            )
        move = None if previous is None else as_move(previous, rows.shape[1], owner)
        malicious: Rows = like(self.craft(Sight(rows, f, rule, names, trained, unseen, move)), honest)
        return malicious

    @abstractmethod
    def craft(self, sight: Sight) -> Matrix:
        """Return the (f, d) malicious updates."""

    def missing_alone(self) -> str:
        """Return the parameter that a node on its own must give, because it sees no other nodes; mostly none."""
        return ""

    def draw_for(self, *place: int) -> None:  # noqa: B027 - most attacks draw nothing
        """Go on with the random draws that belong to a place such as (node, round).

        A node on its own calls this in each round: its process may know of no other rounds.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what is kept between rounds, as copies of arrays by name; most attacks keep nothing."""
        return {}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned.

        Raises
        ------
        ValueError
            If it is no state of this attack.
        """
        if state:
            raise ValueError(f"{self!r} keeps no state, but was given {sorted(state)}; load that of the same attack.")

    def reset(self) -> None:  # noqa: B027 - optional: most attacks are stateless
        """Forget what is kept between rounds."""


class OnBase(Attack):
    """An attack made of another one, which remembers and draws."""

    base: Attack

    def draw_for(self, *place: int) -> None:
        self.base.draw_for(*place)

    def reset(self) -> None:
        self.base.reset()

    def state(self) -> dict[str, NDArray[Any]]:
        return self.base.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.base.load_state(state)


class WithoutUpdates(Attack):
    """An attack that is no matter of updates: malicious nodes poison their data, or send no usable reply."""

    makes_updates = False

    def craft(self, sight: Sight) -> Matrix:
        """Raise TypeError: there are no updates to compute."""
        elsewhere = "" if self.knows == "data" else " or in an Adversary"
        raise TypeError(
            f"{self!r} makes no updates; use it on malicious nodes, with clients.mods.{type(self).__name__}{elsewhere}."
        )


def as_array(values: Any) -> NDArray[Any]:
    """Return an array; of a torch tensor its values, in float32 where they are bfloat16, which NumPy does not know."""
    if not hasattr(values, "detach"):
        return np.asarray(values)
    torch = sys.modules["torch"]
    array: NDArray[Any] = values.detach().to("cpu", torch.float32 if values.dtype == torch.bfloat16 else None).numpy()
    return array


def as_rows(updates: Any, owner: str) -> Matrix:
    """Return updates as a NumPy matrix.

    Raises
    ------
    ValueError
        If they are no (rows, columns) matrix of floats.
    """
    rows = as_array(updates)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise ValueError(
            f"{owner} was given updates of shape {rows.shape} and dtype {rows.dtype}; give a "
            "(rows, columns) matrix of float32 or float64."
        )
    return rows


def as_move(previous: Any, columns: int, owner: str) -> Vector:
    """Return a move of the global model as a float64 vector.

    Raises
    ------
    ValueError
        If it has another length, or is not finite.
    """
    move = np.asarray(as_array(previous))
    if move.shape != (columns,) or move.dtype.kind != "f" or not np.isfinite(move).all():
        raise ValueError(
            f"{owner} was given previous of shape {move.shape} and dtype {move.dtype}; give the last move of the "
            f"global model: (d,) = ({columns},) finite floats."
        )
    return move.astype(np.float64)
