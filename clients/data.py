"""Poisoned training data: the convention by which the label mods of `clients.mods` reach the app's labels.

A mod sees messages, not data. So the app passes its labels, or its data set, through one of the two functions
here; they change nothing unless the mod is active (or a flip is given):

>>> labels = poisoned_labels(labels)                                            # doctest: +SKIP
>>> loader = DataLoader(PoisonedDataset(dataset), batch_size=32, shuffle=True)  # doctest: +SKIP

Dynamic flipping needs the output of the global model, as it was received, for each sample:

>>> scores = frozen_scores(model)                                               # doctest: +SKIP
>>> labels = poisoned_labels(labels, lambda: scores(images))                    # doctest: +SKIP
>>> loader = DataLoader(PoisonedDataset(dataset, scores=scores), batch_size=32) # doctest: +SKIP
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from .attacks.base import as_array
from .attacks.labels import LabelPoison

Labels = TypeVar("Labels")
Scores = Callable[[Any], Any]

LABEL_KEYS = ("label", "labels", "target", "targets", "y")

_active: ContextVar[LabelPoison | None] = ContextVar("clients.poison", default=None)


@contextmanager
def poison(flip: LabelPoison) -> Iterator[None]:
    """Make `poisoned_labels` and `PoisonedDataset` flip labels inside this context (and thread)."""
    token = _active.set(flip)
    try:
        yield
    finally:
        _active.reset(token)


def poisoned_labels(labels: Labels, scores: Any = None) -> Labels:
    """Return the labels to train on: flipped inside a poisoned train call, unchanged elsewhere.

    Parameters
    ----------
    labels : integer NumPy array or torch tensor, a list or tuple of ints, or one int
        Not modified.
    scores : array, tensor or function without arguments, optional
        The global model's output for each sample, ``(len(labels), classes)``: probabilities, their logarithms or
        logits; for dynamic flipping. A function is called only then.

    Returns
    -------
    Labels of the same shape and dtype.

    Raises
    ------
    ValueError
        If the mod is active and a label is out of its range, or scores are needed and missing.
    """
    flip = _active.get()
    return labels if flip is None else flip.flip(labels, scores)


def frozen_scores(model: Any) -> Scores:
    """Return a function from a batch of inputs to the scores of a torch model as it is now.

    Parameters
    ----------
    model : torch.nn.Module
        The global model, before it is trained. A copy in evaluation mode is used, on the model's device.

    Returns
    -------
    callable
        ``(batch, ...) -> (batch, classes)`` tensors, without gradients.
    """
    frozen = copy.deepcopy(model).eval()
    device = next((value.device for value in frozen.parameters()), None)

    def scores(inputs: Any) -> Any:
        import torch

        with torch.no_grad():
            return frozen(torch.as_tensor(inputs, device=device))

    return scores


class PoisonedDataset:
    """A map-style data set with flipped labels; fits a torch ``DataLoader`` and needs no torch itself.

    Which samples are flipped is drawn once, when the data set is wrapped. A loader's batch costs one call of
    `scores`.

    Parameters
    ----------
    dataset : object with ``__len__`` and ``__getitem__``
        Its items are ``(x, y, ...)`` or dictionaries.
    flip : LabelFlip or DynamicLabelFlip, optional
        Default: that of the active mod; no mod, and items pass unchanged.
    label : int or str, optional
        Position or key of the label in an item. Default: 1 for sequences; for dictionaries the one key that
        is among "label", "labels", "target", "targets" and "y".
    scores : callable, optional
        The global model's output for a batch of inputs, ``(batch, ...) -> (batch, classes)``; see
        `frozen_scores`. Needed for dynamic flipping.
    inputs : int or str, optional
        Position or key of the input in an item. Default: 0 for sequences; for dictionaries the one other key.

    Raises
    ------
    ValueError
        If the data set has no length or items, `flip` flips no labels, or needs scores that are missing; on access,
        if there is no label.
    """

    def __init__(
        self,
        dataset: Any,
        flip: LabelPoison | None = None,
        label: int | str | None = None,
        scores: Scores | None = None,
        inputs: int | str | None = None,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ValueError(
                f"PoisonedDataset was given a {type(dataset).__name__}, which has no length or no items by "
                "index; give a map-style data set."
            )
        if flip is not None and not isinstance(flip, LabelPoison):
            raise ValueError(
                f"PoisonedDataset was given flip = {flip!r}; give a LabelFlip or DynamicLabelFlip of clients.attacks."
            )
        self.dataset = dataset
        self.flip = _active.get() if flip is None else flip
        if self.flip is not None and self.flip.needs_scores and not callable(scores):
            raise ValueError(
                f"PoisonedDataset was given scores = {scores!r} for {self.flip!r}; give the global model's output for "
                "a batch of inputs, as in scores=frozen_scores(model)."
            )
        self.label, self.inputs, self.scores = label, inputs, scores
        self._chosen = None if self.flip is None else self.flip.choose(len(dataset))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        """Return a sample, with its label flipped where the sample was chosen."""
        return self._poisoned([index], [self.dataset[index]])[0]

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        """Return the samples of a batch, as torch's loaders ask for them."""
        if hasattr(self.dataset, "__getitems__"):
            items = list(self.dataset.__getitems__(indices))
        else:
            items = [self.dataset[index] for index in indices]
        return self._poisoned(indices, items)

    def _poisoned(self, indices: Sequence[Any], items: list[Any]) -> list[Any]:
        flip, chosen = self.flip, self._chosen
        if flip is None or chosen is None:
            return items
        places = [place for place, index in enumerate(indices) if chosen[index]]
        if not places:
            return items
        scores: Any = [None] * len(places)
        if flip.needs_scores and self.scores is not None:
            scores = as_array(self.scores(_stack([items[place][self._inputs(items[place])] for place in places])))
        for place, score in zip(places, scores, strict=True):
            key = self._place(items[place])
            items[place] = _with_value(items[place], key, flip.flip_all(items[place][key], score))
        return items

    def _place(self, item: Any) -> Any:
        """Return the position or key of the label."""
        if self.label is not None:
            return self.label
        if not isinstance(item, dict):
            return 1
        found = [key for key in LABEL_KEYS if key in item]
        if len(found) != 1:
            raise ValueError(
                f"PoisonedDataset found {len(found)} of the label keys {', '.join(LABEL_KEYS)} in an item "
                f"with keys {', '.join(map(str, item))}; name the label's key with label=."
            )
        return found[0]

    def _inputs(self, item: Any) -> Any:
        """Return the position or key of the input."""
        if self.inputs is not None:
            return self.inputs
        if not isinstance(item, dict):
            return 0
        others = [key for key in item if key != self._place(item)]
        if len(others) != 1:
            raise ValueError(
                f"PoisonedDataset found {len(others)} keys beside the label in an item with keys "
                f"{', '.join(map(str, item))}; name the input's key with inputs=."
            )
        return others[0]


def _with_value(item: Any, place: Any, value: Any) -> Any:
    """Return a copy of an item with another value at this position or key."""
    if isinstance(item, dict):
        return {**item, place: value}
    values = list(item)
    values[place] = value
    if isinstance(item, tuple):
        return type(item)(*values) if hasattr(item, "_fields") else tuple(values)
    return values


def _stack(inputs: list[Any]) -> Any:
    """Return a batch of inputs: a tensor of tensors, an array of anything else."""
    if hasattr(inputs[0], "detach"):
        import torch

        return torch.stack(inputs)
    return np.stack([np.asarray(value) for value in inputs])
