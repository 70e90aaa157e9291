"""What every attack has in common: its call, its checks, and arrays in and out."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from .moments import Matrix
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
    makes_updates : bool
        Whether the attack is a matter of updates: not where nodes poison their data, or send no usable reply.
    """

    knows: Knowledge
    makes_updates: ClassVar[bool] = True

    def __call__(
        self,
        honest: Rows,
        f: int,
        rule: Rule | None = None,
        *,
        ids: Sequence[Hashable] | None = None,
        own: Rows | None = None,
        unseen: int = 0,
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

        Returns
        -------
        (f, d) array or tensor of the same kind, dtype and device.

        Raises
        ------
        ValueError
            If the rows, f, the ids or the number of unseen updates are not as described.
        """
        owner = type(self).__name__
        rows, restore = as_rows(honest, owner)
        check_count(f, owner, "the whole number of malicious nodes")
        check_count(unseen, owner, "the number of honest updates that are not seen", "unseen")
        trained = None if own is None else _check_own(as_rows(own, owner)[0], f, rows.shape[1], owner)
        if len(rows) == 0 and trained is None:
            raise ValueError(f"{owner} was given no honest updates; give at least one row, or own= for the attackers'.")
        names = _check_names(range(len(rows)) if ids is None else ids, len(rows), owner)
        sight = Sight(rows, int(f), rule, names, trained, int(unseen))
        malicious: Rows = restore(self.craft(sight).astype(rows.dtype, copy=False))
        return malicious

    @abstractmethod
    def craft(self, sight: Sight) -> Matrix:
        """Return the (f, d) malicious updates; the arguments of the call are checked."""

    def draw_for(self, *place: int) -> None:  # noqa: B027 - most attacks draw nothing
        """Draw from here on what belongs to a place such as (node, round), for attacks that draw.

        A node on its own calls this in each round: it may run in a process that knows of no other rounds.
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
        """Forget what earlier rounds left behind."""


def as_rows(updates: Any, owner: str) -> tuple[Matrix, Callable[[Matrix], Any]]:
    """Return updates as a NumPy matrix, and a function that turns a matrix back into their kind.

    Raises
    ------
    ValueError
        If `updates` is no (rows, columns) matrix of floats.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(updates, torch.Tensor):
        # NumPy has no bfloat16; float32 holds all of its values.
        tensor = updates.detach().to("cpu", torch.float32 if updates.dtype == torch.bfloat16 else None)
        rows, _ = as_rows(tensor.numpy(), owner)
        return rows, lambda matrix: torch.from_numpy(matrix).to(updates.device, updates.dtype)
    rows = np.asarray(updates)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise ValueError(
            f"{owner} was given updates of shape {rows.shape} and dtype {rows.dtype}; give a "
            "(rows, columns) matrix of float32 or float64."
        )
    return rows, lambda matrix: matrix


def check_count(count: Any, owner: str, what: str, name: str = "f") -> None:
    """Raise ValueError unless the count is a whole number of 0 or more."""
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
        raise ValueError(f"{owner} was given {name} = {count!r}; give {what}, 0 or more.")


def is_number(value: object) -> bool:
    """Tell whether the value is a finite real number and no bool."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))  # type: ignore[call-overload]


def check_number(value: object, owner: str, name: str, least: float | None = 0.0) -> None:
    """Raise ValueError unless the value is a finite number, of at least `least` if that is given."""
    if not is_number(value) or (least is not None and value < least):  # type: ignore[operator]
        bound = "" if least is None else f" >= {least:g}"
        raise ValueError(f"{owner} was given {name} = {value!r}; give a finite number{bound}.")


def _check_own(own: Matrix, f: int, columns: int, owner: str) -> Matrix:
    if own.shape != (f, columns):
        raise ValueError(f"{owner} was given own updates of shape {own.shape}; give (f, d) = ({f}, {columns}).")
    return own


def _check_names(names: Sequence[Hashable], rows: int, owner: str) -> Sequence[Hashable]:
    different = len(set(names))
    if len(names) != rows or different != rows:
        raise ValueError(
            f"{owner} was given {different} different ids for {rows} honest rows; give one id a row, each once."
        )
    return names
