"""What rules remember of single nodes from call to call: a vector or some numbers each, found again by name.

Nodes come and go; of those that have not been there for longest, the ones beyond a limit are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import nothing_to_merge
from flwr_robust.engine.rows import Rows

# Nodes that are remembered at most.
LIMIT = 1_000
# What the names of the remembered nodes, and how long ago they were there, are called in a rule's memory.
NODES, ABSENT = "nodes", "absent"
PLACES = (NODES, ABSENT)

Memory = Mapping[str, NDArray[Any]]
# Takes some columns and returns what is added to each row there.
Added = Callable[[slice], FloatArray]


def places_of(memory: Memory, names: Sequence[str]) -> dict[str, int]:
    """Return where those of these nodes are remembered that are."""
    known = {str(name): place for place, name in enumerate(memory.get(NODES, ()))}
    return {name: known[name] for name in names if name in known}


class History:
    """The nodes that a rule remembers, with those of this call among them.

    Parameters
    ----------
    memory : mapping of str to array
        What the rule remembers.
    names : sequence of str
        The nodes of this call.

    Attributes
    ----------
    places : (m,) int64 array
        Where the nodes of this call are remembered from now on.
    known : (m,) bool array
        Which of them were remembered before.
    """

    def __init__(self, memory: Memory, names: Sequence[str]) -> None:
        before = [str(name) for name in memory.get(NODES, ())]
        present = set(names)
        absent = memory.get(ABSENT, np.zeros(0, np.int64)) + 1
        spare = max(LIMIT - len(names), 0)
        # Of the others those stay that were there latest.
        others = sorted((place for place, name in enumerate(before) if name not in present), key=absent.__getitem__)
        left = {*others[:spare], *(place for place, name in enumerate(before) if name in present)}
        self._kept = np.array(sorted(left), dtype=np.int64)
        self._whole = len(left) == len(before)
        self.names = [before[place] for place in self._kept]
        known = {name: place for place, name in enumerate(self.names)}
        self.known = np.array([name in known for name in names], dtype=bool)
        for name in names:
            known.setdefault(name, len(known))
        self.names = list(known)
        self.places = np.array([known[name] for name in names], dtype=np.int64)
        self.absent = np.append(absent[self._kept], np.zeros(len(known) - len(left), np.int64))
        self.absent[self.places] = 0

    def remembered(self) -> dict[str, NDArray[Any]]:
        """Return what has to be noted beside the values of the nodes."""
        return {NODES: np.array(self.names, dtype=np.str_), ABSENT: self.absent}

    def resized(
        self, values: NDArray[Any] | None, shape: tuple[int, ...], dtype: Any, new: float = 0.0
    ) -> NDArray[Any]:
        """Return the nodes' values with places for those that are new.

        Where nobody came or went it is the array itself: to be changed in place once nothing can fail any more, by what
        is given to `Rows.defer`.

        Parameters
        ----------
        values : (k, *shape) array or None
            Of the nodes that were remembered.
        shape : tuple of int
            Of one node's value.
        dtype : dtype
            Of the values.
        new : float
            The value of nodes that are new.
        """
        if values is not None and self._whole and len(self.names) == len(values) and values.dtype == dtype:
            return values
        made = np.full((len(self.names), *shape), new, dtype)
        if values is not None:
            made[: len(self._kept)] = values[self._kept]
        return made


def write(
    rows: Rows,
    values: NDArray[Any],
    places: NDArray[np.int64],
    which: Sequence[int] | None = None,
    more: Added | None = None,
    columns: tuple[int, int] | None = None,
) -> None:
    """Overwrite the vectors of nodes by their rows, plus what `more` returns for some columns; one pass.

    For the end of a call, when nothing can fail any more (`Rows.defer`); values stay within the range of their dtype.

    Parameters
    ----------
    rows : Rows
        This call's.
    values : (k, d) array
        Of the remembered nodes.
    places : (m,) int64 array
        Where the rows' nodes are among them.
    which : sequence of int, optional
        The m rows; by default all.
    more : callable, optional
        By default nothing is added.
    columns : (start, stop), optional
        Of the rows, that the values stand for; by default all.
    """
    largest, first = float(np.finfo(values.dtype).max), columns[0] if columns else 0

    def store(block: FloatArray, start: int, _: None) -> None:
        here = slice(start - first, start - first + block.shape[1])
        if more is not None:
            block += more(here)
        np.clip(block, -largest, largest, out=block)
        for place, row in zip(places, range(len(block)) if which is None else which, strict=True):
            values[place, here] = block[row]

    rows.scan(store, lambda _: None, nothing_to_merge, dtype=np.float64, columns=columns)
