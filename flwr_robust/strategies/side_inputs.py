"""What strategies tell their rules beside the updates: who sent them, the model, and the server's own update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.base import Rule, Stage
from flwr_robust.rules.run import GaveUpError
from flwr_robust.rules.side_inputs import SideInputs

# Takes the arrays of a model and the number of the round, and returns those of the model that the server has trained.
RootFunction = Callable[[Any, int], Any]
Arrays = Mapping[str, NDArray[Any]]
# Takes a rule and the updates, and returns what the rule is told beside them.
Tell = Callable[[Rule, Updates], SideInputs]


def root_function(value: Any, owner: str) -> RootFunction | None:
    """Return a function, or None; raise ValueError where it is neither."""
    if value is not None and not callable(value):
        raise ValueError(f"{owner} was given root_fn = {value!r}; give a function (arrays, server_round) -> arrays.")
    found: RootFunction | None = value
    return found


def require_root(rule: Rule, root_fn: RootFunction | None, owner: str) -> None:
    """Raise ValueError where a rule needs the server's own update, and there is no function that makes one."""
    if root_fn is None and "root" in _inputs(rule, "requires"):
        raise ValueError(
            f"{owner} runs {rule!r}, which needs the server's own update: give root_fn = a function "
            "(arrays, server_round) -> arrays that trains the model which it gets on data of the server's."
        )


def reads(rule: Rule) -> bool:
    """Whether a rule, or one of its parts, reads any side input."""
    return bool(_inputs(rule, "requires", "optional"))


def _inputs(stage: Stage, *kinds: str) -> set[str]:
    """Names of the side inputs that a rule, or one of its parts, requires or reads."""
    own = {name for kind in kinds for name in getattr(stage, kind, ())}
    return own.union(*(_inputs(part, *kinds) for part in stage.parts))


@dataclass(eq=False)
class RoundInputs:
    """The side inputs of one round; the root update is computed once.

    Attributes
    ----------
    server_round : int
        Number of the round.
    arrays : ArrayRecord or None
        The model that was sent; None counts as zero.
    model : mapping of str to array, or None
        Flat views of its arrays.
    root_fn : callable or None
        Makes the server's own model.
    unpack : callable
        Makes what `root_fn` gets of an ArrayRecord.
    """

    server_round: int
    arrays: ArrayRecord | None
    model: Arrays | None
    root_fn: RootFunction | None
    unpack: Callable[[ArrayRecord], Any]
    _root: FloatArray | str | None = None

    def to(self, nodes: Sequence[int]) -> Tell:
        """Return what tells a rule about updates of these nodes, or raises GaveUpError: the round is to be skipped."""
        return partial(self._tell, list(nodes))

    def _tell(self, nodes: Sequence[int], rule: Rule, updates: Updates) -> SideInputs:
        reads = _inputs(rule, "requires", "optional")
        if "root" in reads and self._root is None:
            self._root = self._train(updates)
        if isinstance(self._root, str):
            raise GaveUpError(self._root)
        return SideInputs(nodes, self._root, _vector(self.model or {}, updates) if "model" in reads else None)

    def _train(self, updates: Updates) -> FloatArray | str:
        """Return the server's own update, or why there is none."""
        if self.root_fn is None:
            return "the rule needs the server's own update, but the strategy was given no root_fn"
        arrays = _zeros(updates) if self.arrays is None else self.arrays
        try:
            own = _by_name(self.root_fn(self.unpack(arrays), self.server_round), list(arrays))
        except Exception as error:
            return f"root_fn failed: {type(error).__name__}: {str(error)[:200]}"
        for layer in updates.layers:
            values = own.get(layer.name)
            if values is None or values.size != layer.size:
                found = "none of that name" if values is None else f"one of shape {values.shape}"
                return f"root_fn has to return the array {layer.name!r} of shape {layer.shape}; it returned {found}"
            if not np.isfinite(values).all():
                return f"root_fn returned NaN or infinity in the array {layer.name!r}"
        return _vector(own, updates, self.model or {})


def _by_name(returned: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return arrays, tensors or Flower's by name; in a list they are in the order of those that were sent."""
    if isinstance(returned, ArrayRecord) and list(returned) == list(map(str, range(len(names)))):
        # Flower numbers the arrays of a list.
        returned = list(returned.values())
    pairs = returned.items() if isinstance(returned, Mapping) else zip(names, returned, strict=True)
    return {name: _as_array(value) for name, value in pairs}


def _as_array(value: Any) -> NDArray[Any]:
    if isinstance(value, Array):
        return value.numpy()
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _vector(values: Arrays, updates: Updates, base: Arrays | None = None) -> FloatArray:
    """Return arrays, minus those of a base, as one vector, in the updates' dtype and columns.

    It is zero where an array is missing, or not finite.
    """
    vector = np.zeros(updates.d, updates.dtype)
    for layer in updates.layers:
        part = vector[layer.start : layer.stop]
        with np.errstate(over="ignore", invalid="ignore"):
            if layer.name in values:
                part[:] = np.ravel(values[layer.name])
            if layer.name in (base or {}):
                part -= np.ravel((base or {})[layer.name])
        part[~np.isfinite(part)] = 0.0
    return vector


def _zeros(updates: Updates) -> ArrayRecord:
    return ArrayRecord({layer.name: Array(np.zeros(layer.shape, updates.dtype)) for layer in updates.layers})
