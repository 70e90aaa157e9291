"""Backdoors without a trigger: rare inputs, or what some inputs have in common, make the model say the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.choose import like

from .backdoors import Array, Backdoor, Mask, Places, Values
from .base import as_array

Condition = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class EdgeCase(Backdoor):
    """Replace some samples by rare foreign ones, labelled as the target (Wang et al., Attack of the Tails, 2020).

    ``floor(fraction * m + 0.5)`` of the m samples, whatever their labels, become rows of `edge` in their order, again
    from the first when they run out. There is no trigger: success is measured on held-out edge inputs.

    Parameters
    ----------
    target : int
        The class that edge inputs are to be taken for, 0 or more.
    edge : (k, ...) array or tensor
        Inputs that honest nodes hardly have, of an input's shape and in its units; at least one.
    fraction : float
        Share of the samples that is replaced, in [0, 1].
    seed : int, optional
        Seed of the draw of samples; None takes it from the operating system.

    Examples
    --------
    >>> EdgeCase(target=1, edge=np.array([[7.0], [8.0]]), fraction=1.0).poison(np.zeros((3, 1)), np.arange(3))
    (array([[7.],
           [8.],
           [7.]]), array([1, 1, 1]))
    """

    target: int
    edge: Any = field(repr=False, compare=False)
    fraction: float = 0.5
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        edge = np.array(as_array(self.edge))
        if not edge.ndim or not len(edge) or edge.dtype.kind not in "iuf" or not np.isfinite(edge).all():
            raise ValueError(
                f"EdgeCase was given edge inputs of shape {edge.shape} and dtype {edge.dtype}; give one input or more, "
                "(k, ...) finite numbers."
            )
        object.__setattr__(self, "edge", edge)

    def eligible(self, labels: Any, known: NDArray[np.int64], inputs: Any) -> Mask:
        return np.ones(len(known), dtype=bool)

    def mark(self, inputs: Array, part: int | None, places: Places) -> Array:
        if self.edge.shape[1:] != inputs.shape[1:]:
            raise ValueError(
                f"EdgeCase was given edge inputs of shape {self.edge.shape[1:]} for inputs of shape "
                f"{inputs.shape[1:]}; give edge inputs of an input's shape."
            )
        replaced: Array = self.edge[places % len(self.edge)].astype(inputs.dtype)
        return replaced

    def trigger(self, inputs: Values) -> Values:
        """Return copies: measure on held-out edge inputs, with their true labels."""
        copied: Values = like(np.array(as_array(inputs)), inputs)
        return copied


@dataclass(frozen=True)
class SemanticLabelSwap(Backdoor):
    """Label samples that have something in common as the target (Bagdasaryan et al., AISTATS 2020, semantic backdoor).

    Inputs stay as they are: what they show is the trigger, green cars or texts with a certain ending, say. Success is
    measured on test inputs that meet the condition.

    Parameters
    ----------
    target : int
        The class that such inputs are to be taken for, 0 or more.
    condition : callable
        From inputs and labels to a bool mask, one a sample.
    fraction : float
        Share of the samples that meet the condition and are not of the target class that is poisoned, in [0, 1].
    seed : int, optional
        Seed of the draw of samples; None takes it from the operating system.

    Examples
    --------
    >>> SemanticLabelSwap(0, lambda inputs, labels: inputs[:, 0] > 1).poison(np.array([[1.0], [2.0]]), np.array([3, 3]))
    (array([[1.],
           [2.]]), array([3, 0]))
    """

    target: int
    condition: Condition = field(repr=False)
    fraction: float = 1.0
    seed: int | None = None

    needs_inputs: ClassVar[bool] = True
    changes_inputs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.condition):
            raise ValueError(
                f"SemanticLabelSwap was given condition = {self.condition!r}; give a callable (inputs, labels) -> mask."
            )

    def eligible(self, labels: Any, known: NDArray[np.int64], inputs: Any) -> Mask:
        """Return which samples meet the condition and are not of the target class."""
        if inputs is None:
            raise ValueError("SemanticLabelSwap was given no inputs; give them: choose(labels, inputs).")
        met = np.asarray(as_array(self.condition(inputs, labels)))
        if met.shape != known.shape or met.dtype != bool:
            raise ValueError(
                f"SemanticLabelSwap's condition gave shape {met.shape} and dtype {met.dtype} for {len(known)} samples; "
                "it must give one bool a sample."
            )
        return np.asarray(met & (known != self.target))

    def mark(self, inputs: Array, part: int | None, places: Places) -> Array:
        return inputs.copy()
