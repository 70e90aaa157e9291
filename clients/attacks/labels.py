"""Label poisoning: honest training on false labels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.choose import is_tensor, like
from flwr_robust.rules.checks import number, whole_number

from .base import WithoutUpdates, as_array

Labels = TypeVar("Labels")


class LabelPoison(WithoutUpdates):
    """A data attack: malicious nodes train honestly, on labels of which some are false.

    They use `flip`, a `clients.PoisonedDataset` or a mod of `clients.mods`.

    Attributes
    ----------
    probability : float
        Each label is replaced with this probability, independently; in [0, 1].
    seed : int or None
        Seed of the draws; None takes it from the operating system.
    """

    probability: float
    seed: int | None
    _generator: np.random.Generator

    knows = "data"
    needs_scores = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        number(self.probability, "probability", owner, at_least=0, at_most=1)
        whole_number(self.seed, "seed", owner, at_least=0, or_none=True)
        self.reset()

    def reset(self) -> None:
        """Start the draws of `flip` again from the seed."""
        # Subclasses are frozen: their parameters are, not where their draws stand.
        object.__setattr__(self, "_generator", np.random.default_rng(self.seed))

    @abstractmethod
    def falsify(self, labels: NDArray[np.int64], scores: NDArray[Any] | None) -> NDArray[np.int64]:
        """Return the false label of each."""

    def flip(self, labels: Labels, scores: Any = None) -> Labels:
        """Return the labels to train on; each call draws anew which ones are false.

        Parameters
        ----------
        labels : integer NumPy array or torch tensor of any shape, a list or tuple of ints, or one int
            Not modified.
        scores : array or tensor, optional
            The global model's output for each sample, ``(*shape of labels, classes)``: probabilities, their
            logarithms or logits. For `DynamicLabelFlip`; others ignore it.

        Returns
        -------
        Labels of the same shape, dtype and kind (device too); a NumPy array for a list or tuple.

        Raises
        ------
        ValueError
            If a label is no whole number or out of range, or scores are missing or do not fit.
        """
        flipped: Labels = self._apply(labels, scores, lambda shape: self._generator.random(shape) < self.probability)
        return flipped

    def flip_all(self, labels: Labels, scores: Any = None) -> Labels:
        """Return false labels for all, whatever the probability; else as `flip`."""
        flipped: Labels = self._apply(labels, scores, lambda shape: np.ones(shape, dtype=bool))
        return flipped

    def choose(self, count: int) -> NDArray[np.bool_]:
        """Return which of a data set's `count` samples are poisoned: with a seed, the same in each call."""
        return np.random.default_rng(self.seed).random(count) < self.probability

    def _apply(self, labels: Any, scores: Any, choose: Any) -> Any:
        if is_tensor(labels):
            return like(self._apply(as_array(labels), scores, choose), labels)
        given = np.asarray(labels)
        if not np.issubdtype(given.dtype, np.integer) and given.size:
            raise self._wrong_labels(given)
        false = self.falsify(given.astype(np.int64), _scores(scores))
        flipped = np.where(choose(given.shape), false, given)
        if given.size and given.dtype.kind in "iu" and flipped.max() > np.iinfo(given.dtype).max:
            raise ValueError(f"{self!r} cannot write {flipped.max()} as {given.dtype}; give labels of a wider dtype.")
        return int(flipped) if isinstance(labels, int) else flipped.astype(given.dtype)

    def allowed(self) -> str:
        """Return which labels are allowed, for error messages."""
        return "whole numbers"

    def _wrong_labels(self, labels: NDArray[Any]) -> ValueError:
        found = f"{labels.min()} to {labels.max()}" if labels.dtype.kind in "iuf" else "no numbers"
        return ValueError(f"{self!r} was given labels of dtype {labels.dtype} ({found}); give {self.allowed()}.")


@dataclass(frozen=True)
class LabelFlip(LabelPoison):
    """Train on mirrored labels: ``l -> num_classes - 1 - l`` (NNM 14.3, ARC D.3; static flipping in LPA 5.1).

    Parameters
    ----------
    num_classes : int
        Labels are 0 to ``num_classes - 1``; at least 2.
    probability : float
        Each label is flipped with this probability, independently; in [0, 1].
    seed : int, optional
        Seed of the draws; None takes it from the operating system.

    Examples
    --------
    >>> LabelFlip(10).flip(np.array([0, 3, 9]))
    array([9, 6, 0])
    """

    num_classes: int
    probability: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        whole_number(self.num_classes, "num_classes", "LabelFlip", at_least=2)
        super().__post_init__()

    def falsify(self, labels: NDArray[np.int64], scores: NDArray[Any] | None) -> NDArray[np.int64]:
        if labels.size and (labels.min() < 0 or labels.max() >= self.num_classes):
            raise self._wrong_labels(labels)
        return self.num_classes - 1 - labels

    def allowed(self) -> str:
        return f"whole numbers from 0 to {self.num_classes - 1}"


@dataclass(frozen=True)
class DynamicLabelFlip(LabelPoison):
    """Train on the labels that the global model finds least probable: ``l -> argmin_c p(c | x)`` (LPA 5.1).

    Parameters
    ----------
    probability : float
        Each label is flipped with this probability, independently; in [0, 1].
    seed : int, optional
        Seed of the draws; None takes it from the operating system.

    Examples
    --------
    >>> DynamicLabelFlip().flip(np.array([0, 1]), scores=np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]))
    array([2, 0])
    """

    probability: float = 1.0
    seed: int | None = None

    needs_scores = True

    def falsify(self, labels: NDArray[np.int64], scores: NDArray[Any] | None) -> NDArray[np.int64]:
        """Return each row's least probable class; of equally improbable ones the first."""
        if scores is None:
            raise ValueError(
                "DynamicLabelFlip was given no scores; give the global model's output for each sample, as in "
                "poisoned_labels(labels, lambda: model(x)) or PoisonedDataset(dataset, scores=frozen_scores(model))."
            )
        if scores.ndim != labels.ndim + 1 or scores.shape[:-1] != labels.shape or not scores.shape[-1]:
            raise ValueError(
                f"DynamicLabelFlip was given scores of shape {scores.shape} for labels of shape {labels.shape}; give "
                "one score for each label and class, (*labels, classes)."
            )
        return np.asarray(scores.argmin(axis=-1), dtype=np.int64)


def _scores(scores: Any) -> NDArray[Any] | None:
    """Return scores as a NumPy array; functions are called for them."""
    return None if scores is None else as_array(scores() if callable(scores) else scores)
