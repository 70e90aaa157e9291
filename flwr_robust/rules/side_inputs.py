"""What a rule may be told beside the rows: who sent them, the server's own update, and the model that was sent."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from flwr_robust.engine.device import FloatArray

VECTORS = {"root": "the update that the server computed on its own data", "model": "the global model that was sent"}


class Reader(Protocol):
    """What is asked of a rule; see `flwr_robust.rules.base.Rule`."""

    @property
    def requires(self) -> Sequence[str]: ...
    @property
    def optional(self) -> Sequence[str]: ...


@dataclass(frozen=True, eq=False)
class SideInputs:
    """Side inputs as they were given.

    Attributes
    ----------
    ids : sequence of hashable, optional
        One for each row; by default row numbers.
    root : (d,) array or tensor, optional
        The update that the server computed on its own clean data, from the same model.
    model : (d,) array or tensor, optional
        The model that was sent.
    """

    ids: Sequence[Hashable] | None = None
    root: Any = None
    model: Any = None

    def read_by(self, rule: Reader, n: int, d: int, dtype: np.dtype[Any], *, rows_are_nodes: bool = True) -> Told:
        """Return what a rule is told: nothing that it does not read.

        Parameters
        ----------
        rule : Rule
            Says what it requires, and what it reads where it is given.
        n, d : int
            Rows and columns that come into the chain.
        dtype : dtype
            Of the rows.
        rows_are_nodes : bool
            Whether no stage before the rule mixes rows.

        Raises
        ------
        ValueError
            If a side input that the rule reads is wrong, or a required one is missing.
        """
        reads = (*rule.requires, *rule.optional)
        vectors = {
            name: _vector(getattr(self, name), name, d, dtype, rule)
            for name in VECTORS
            if name in reads and (name in rule.requires or getattr(self, name) is not None)
        }
        names = _names(self.ids if "ids" in reads else None, n, rule)
        return Told(names if rows_are_nodes else tuple(map(name_of, range(n))), rows_are_nodes, vectors)


@dataclass(frozen=True, eq=False)
class Told:
    """Side inputs as a rule reads them.

    Attributes
    ----------
    names : tuple of str
        Names of the rows that come into the chain: where a stage mixes them, numbers.
    rows_are_nodes : bool
        Whether no stage mixes them.
    vectors : dict of str to (d,) array
        ``root`` and ``model``, in the rows' dtype, where they are given.
    """

    names: tuple[str, ...]
    rows_are_nodes: bool = True
    vectors: dict[str, FloatArray] = field(default_factory=dict)

    def names_of(self, count: int, kept: Iterable[int] | None) -> tuple[str, ...]:
        """Return the names of the `count` rows that reach a rule: those kept of all, where some were left out."""
        if not self.rows_are_nodes or kept is None:
            return self.names[:count]
        return tuple(self.names[row] for row in kept)


# Of a rule that reads none.
UNTOLD = Told(())


def name_of(identity: Hashable) -> str:
    """Return what a node is called in a saved state: strings of digits and numbers stay apart."""
    return repr(identity.item() if isinstance(identity, np.generic) else identity)


def _names(ids: Sequence[Hashable] | None, n: int, rule: Reader) -> tuple[str, ...]:
    names = tuple(map(name_of, range(n) if ids is None else ids))
    if len(names) != n or len(set(names)) != n:
        raise ValueError(
            f"{rule!r} was given ids = {list(ids or ())!r:.200} for n = {n} rows; give one for each row, all different."
        )
    return names


def _vector(value: Any, name: str, d: int, dtype: np.dtype[Any], rule: Reader) -> FloatArray:
    what = f"give {name} = {VECTORS[name]}: a vector of d = {d} finite numbers"
    if value is None:
        raise ValueError(f"{rule!r} was given no {name}; {what}.")
    array = np.asarray(value.detach().cpu().double() if hasattr(value, "detach") else value)
    if array.shape != (d,) or array.dtype.kind not in "fiu":
        raise ValueError(f"{rule!r} was given {name} of shape {array.shape} and dtype {array.dtype}; {what}.")
    with np.errstate(over="ignore"):
        vector = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(vector).all():
        raise ValueError(f"{rule!r} was given {name} with NaN, infinity or values beyond {dtype}; {what}.")
    return vector
