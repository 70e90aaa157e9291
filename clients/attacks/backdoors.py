"""Backdoors: honest training on data of which some carry a trigger and the attackers' label."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.choose import is_tensor, like
from flwr_robust.rules.checks import number, whole_number

from .base import WithoutUpdates, as_array

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]
Values = TypeVar("Values")

_log = logging.getLogger(__name__)


class Backdoor(WithoutUpdates):
    """A data attack: malicious nodes train honestly, on samples of which some are poisoned.

    Inputs and labels are NumPy arrays or torch tensors, a sample each along the first axis; kinds and dtypes are kept
    and nothing is changed in place.

    Attributes
    ----------
    target : int
        The class that triggered inputs are to be taken for.
    fraction : float
        Share of the eligible samples that is poisoned, in [0, 1].
    seed : int or None
        Seed of the draw: with one, each call draws the same. None: from the operating system.
    needs_inputs : bool
        Whether `choose` looks at the inputs, too.
    changes_inputs : bool
        Whether poisoned samples get other inputs, not only another label.
    """

    target: int
    fraction: float
    seed: int | None

    knows = "data"
    needs_inputs: ClassVar[bool] = False
    changes_inputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        owner = type(self).__name__
        whole_number(self.target, "target", owner, at_least=0)
        number(self.fraction, "fraction", owner, at_least=0, at_most=1)
        whole_number(self.seed, "seed", owner, at_least=0, or_none=True)

    def choose(self, labels: Any, inputs: Any = None) -> Any:
        """Return which samples are poisoned: ``floor(fraction * eligible + 0.5)``, drawn without replacement.

        Parameters
        ----------
        labels : (m,) integer array or tensor
            One label a sample.
        inputs : array or tensor, optional
            The inputs, for those attacks that choose by them.

        Returns
        -------
        (m,) bool array or tensor.

        Raises
        ------
        ValueError
            If the labels are no vector of whole numbers, or inputs are needed and missing.
        """
        given = self._checked_labels(labels)
        eligible = np.flatnonzero(self.eligible(labels, given, inputs))
        count = math.floor(self.fraction * len(eligible) + 0.5)
        mask = np.zeros(len(given), dtype=bool)
        mask[np.random.default_rng(self.seed).choice(eligible, size=count, replace=False)] = True
        return _mask_like(mask, labels)

    def poison(self, inputs: Values, labels: Any, part: int | None = None) -> tuple[Values, Any]:
        """Return the data to train on: chosen samples get the trigger and the label `target`, others stay.

        Parameters
        ----------
        inputs : (m, ...) array or tensor
            The inputs.
        labels : (m,) integer array or tensor
            Their labels.
        part : int, optional
            Which part of a distributed trigger this node has; others have no parts.

        Returns
        -------
        inputs, labels
            Copies.

        Raises
        ------
        ValueError
            If numbers of inputs and labels differ, the trigger does not fit, or see `choose`.
        """
        if len(inputs) != len(labels):  # type: ignore[arg-type]
            raise ValueError(
                f"{type(self).__name__} was given {len(inputs)} inputs and {len(labels)} labels; give one "  # type: ignore[arg-type]
                "label an input."
            )
        return self.apply(inputs, labels, self.places(labels, inputs), part)

    def trigger(self, inputs: Values) -> Values:
        """Return all inputs with the whole trigger, for the test set; see `attack_success_rate`."""
        given = as_array(inputs)
        triggered: Values = like(self.mark(given, None, np.arange(len(given))), inputs)
        return triggered

    def places(self, labels: Any, inputs: Any = None) -> Places:
        """Return each sample's place among the poisoned ones, -1 for those that stay; says so where all stay."""
        mask = np.asarray(as_array(self.choose(labels, inputs)))
        if self.fraction and not mask.any():
            _log.warning("%r finds nothing to poison among %d samples: this node trains honestly.", self, len(mask))
        return np.where(mask, np.cumsum(mask) - 1, -1)

    def apply(self, inputs: Values, labels: Any, places: Places, part: int | None = None) -> tuple[Values, Any]:
        """Return copies in which the samples with a place (see `places`) are poisoned."""
        given, known = np.array(as_array(inputs)), np.array(as_array(labels))
        chosen = places >= 0
        if not 0 <= self.target <= np.iinfo(known.dtype).max:
            raise ValueError(f"{self!r} cannot write its target as {known.dtype}; give labels of a wider dtype.")
        if chosen.any():
            given[chosen] = self.mark(given[chosen], part, places[chosen])
            known[chosen] = self.target
        return like(given, inputs), like(known, labels)

    def eligible(self, labels: Any, known: NDArray[np.int64], inputs: Any) -> Mask:
        """Return which samples may be poisoned; labels as they came, and as whole numbers."""
        source: int | None = getattr(self, "source", None)
        return np.asarray(known != self.target if source is None else known == source)

    @abstractmethod
    def mark(self, inputs: Array, part: int | None, places: Places) -> Array:
        """Return a copy of samples with the trigger; places count the poisoned samples."""

    def _checked_labels(self, labels: Any) -> NDArray[np.int64]:
        known = np.asarray(as_array(labels))
        if known.ndim != 1 or known.dtype.kind not in "iu":
            raise ValueError(
                f"{type(self).__name__} was given labels of shape {known.shape} and dtype {known.dtype}; give one "
                "whole number a sample."
            )
        return known.astype(np.int64)


class SourceBackdoor(Backdoor):
    """A backdoor that may be limited to the samples of one class."""

    source: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number(self.source, "source", type(self).__name__, at_least=0, or_none=True)


def attack_success_rate(predictions: Any, labels: Any, target: int) -> float:
    """Return the share of triggered test inputs that the model takes for the target class.

    Inputs whose true label is the target do not count: the model is to say that of them. A defence is judged by this
    rate and by its accuracy on clean inputs, beside the rate of a clean model on the same triggered inputs.

    Parameters
    ----------
    predictions : (m,) integer array or tensor
        The class that the model gives each triggered input.
    labels : (m,) integer array or tensor
        Their true labels.
    target : int
        The attackers' class.

    Returns
    -------
    float
        In [0, 1]; NaN where all labels are the target.

    Raises
    ------
    ValueError
        If predictions and labels are not as many, or no classes.

    Examples
    --------
    >>> attack_success_rate([7, 7, 1, 7], [1, 2, 3, 7], target=7)
    0.6666666666666666
    """
    said, true = np.asarray(as_array(predictions)), np.asarray(as_array(labels))
    if said.ndim != 1 or said.shape != true.shape or (len(said) and {said.dtype.kind, true.dtype.kind} - set("iu")):
        raise ValueError(
            f"attack_success_rate was given predictions of shape {said.shape} and dtype {said.dtype} for labels of "
            f"shape {true.shape} and dtype {true.dtype}; give one class, a whole number, for each."
        )
    counted = true != whole_number(target, "target", "attack_success_rate", at_least=0)
    return float(np.mean(said[counted] == target)) if counted.any() else float("nan")


def _mask_like(mask: Mask, labels: Any) -> Any:
    if not is_tensor(labels):
        return mask
    return like(mask.astype(np.uint8), labels) == 1
