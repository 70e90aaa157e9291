"""Poisoned training data: the convention by which the data mods of `clients.mods` reach the app's samples.

A mod sees messages, not data. So the app passes its labels, its arrays, or its data set, through one of the functions
here; they change nothing unless the mod is active (or an attack is given):

>>> labels = poisoned_labels(labels)                                            # doctest: +SKIP
>>> images, labels = poisoned(images, labels)                                   # doctest: +SKIP
>>> loader = DataLoader(PoisonedDataset(dataset), batch_size=32, shuffle=True)  # doctest: +SKIP

Labels alone carry label flips; backdoors need the inputs, too.

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
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from flwr_robust.engine.choose import like

from .attacks.backdoors import Backdoor, Places
from .attacks.base import as_array
from .attacks.labels import LabelPoison

Labels = TypeVar("Labels")
Inputs = TypeVar("Inputs")
DataAttack = LabelPoison | Backdoor
Scores = Callable[[Any], Any]

LABEL_KEYS = ("label", "labels", "target", "targets", "y")


@dataclass(frozen=True)
class _Active:
    """The attack of the train call that is going on, and the node's part of a distributed trigger."""

    attack: DataAttack | None = None
    part: int | None = None


_active: ContextVar[_Active] = ContextVar("clients.poison", default=_Active())  # noqa: B039 - it cannot be changed


@contextmanager
def poison(attack: DataAttack, part: int | None = None) -> Iterator[None]:
    """Make `poisoned_labels`, `poisoned` and `PoisonedDataset` poison data inside this context (and thread)."""
    token = _active.set(_Active(attack, part))
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
        If the mod is active and a label is out of its range, or scores are needed and missing; or if the mod is a
        backdoor, which needs inputs.
    """
    flip = _active.get().attack
    if isinstance(flip, Backdoor):
        raise ValueError(
            f"poisoned_labels was called under {flip!r}, which needs inputs as well; use inputs, labels = "
            "poisoned(inputs, labels) or PoisonedDataset(dataset) in the app."
        )
    return labels if flip is None else flip.flip(labels, scores)


def poisoned(
    inputs: Inputs, labels: Labels, scores: Any = None, *, channels_last: bool = False
) -> tuple[Inputs, Labels]:
    """Return the samples to train on: poisoned inside a poisoned train call, unchanged elsewhere.

    Parameters
    ----------
    inputs : (m, ...) array or torch tensor
        All inputs that the node trains on; not modified.
    labels : (m,) integer array or tensor
        Their labels; not modified.
    scores : array, tensor or function without arguments, optional
        See `poisoned_labels`.
    channels_last : bool
        Whether images are (samples, height, width, channels), as in Keras.

    Returns
    -------
    inputs, labels
        Of the same shapes and dtypes.

    Raises
    ------
    ValueError
        See `poisoned_labels`; or if a trigger does not fit.
    """
    active = _active.get()
    if active.attack is None:
        return inputs, labels
    if isinstance(active.attack, LabelPoison):
        return inputs, active.attack.flip(labels, scores)
    given: Any = _channels_moved(inputs, -1, 1) if channels_last else inputs
    marked, false = active.attack.poison(given, labels, active.part)
    return (_channels_moved(marked, 1, -1) if channels_last else marked), false


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
    """A map-style data set with poisoned samples; fits a torch ``DataLoader`` and needs no torch itself.

    Which samples are poisoned is drawn once, when the data set is wrapped: for backdoors, which look at the labels, at
    the cost of reading each sample once. A loader's batch costs one call of `scores`. Inputs that get a trigger must be
    arrays or tensors, as the data set yields them after its own transforms.

    Parameters
    ----------
    dataset : object with ``__len__`` and ``__getitem__``
        Its items are ``(x, y, ...)`` or dictionaries.
    flip : data attack, optional
        LabelFlip, DynamicLabelFlip, BadNets, Blended, DBA, EdgeCase or SemanticLabelSwap. Default: that of the active
        mod; no mod, and items pass unchanged.
    label : int or str, optional
        Position or key of the label in an item. Default: 1 for sequences; for dictionaries the one key that
        is among "label", "labels", "target", "targets" and "y".
    scores : callable, optional
        The global model's output for a batch of inputs, ``(batch, ...) -> (batch, classes)``; see
        `frozen_scores`. Needed for dynamic flipping.
    inputs : int or str, optional
        Position or key of the input in an item. Default: 0 for sequences; for dictionaries the one other key.
    part : int, optional
        The node's part of a distributed trigger. Default: that of the active mod.
    labels : sequence of int, optional
        The labels of all samples, where they are at hand: spares backdoors that do not look at inputs the reading.
    channels_last : bool
        Whether images are (height, width, channels), as in Keras.

    Raises
    ------
    ValueError
        If the data set has no length or items, `flip` is no data attack, or needs scores that are missing; on access,
        if there is no label, or a trigger does not fit.
    """

    def __init__(
        self,
        dataset: Any,
        flip: DataAttack | None = None,
        label: int | str | None = None,
        scores: Scores | None = None,
        inputs: int | str | None = None,
        *,
        part: int | None = None,
        labels: Sequence[int] | None = None,
        channels_last: bool = False,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ValueError(
                f"PoisonedDataset was given a {type(dataset).__name__}, which has no length or no items by "
                "index; give a map-style data set."
            )
        if flip is not None and not isinstance(flip, LabelPoison | Backdoor):
            raise ValueError(
                f"PoisonedDataset was given flip = {flip!r}; give a LabelFlip or DynamicLabelFlip of clients.attacks, "
                "or one of its backdoors, such as BadNets."
            )
        self.dataset = dataset
        self.flip = _active.get().attack if flip is None else flip
        self.part = _active.get().part if part is None else part
        if isinstance(self.flip, LabelPoison) and self.flip.needs_scores and not callable(scores):
            raise ValueError(
                f"PoisonedDataset was given scores = {scores!r} for {self.flip!r}; give the global model's output for "
                "a batch of inputs, as in scores=frozen_scores(model)."
            )
        self.label, self.inputs, self.scores, self.channels_last = label, inputs, scores, channels_last
        self._places = self._choose(labels)

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

    def _choose(self, labels: Sequence[int] | None) -> Places | None:
        """Return each sample's place among the poisoned ones, -1 for the others; None without an attack."""
        if self.flip is None:
            return None
        if isinstance(self.flip, LabelPoison):
            return np.where(self.flip.choose(len(self.dataset)), 0, -1)
        inputs = None
        if labels is None or self.flip.needs_inputs:
            items = [self.dataset[index] for index in range(len(self.dataset))]
            labels = [int(item[self._place(item)]) for item in items]
            inputs = _stack([item[self._inputs(item)] for item in items]) if self.flip.needs_inputs and items else None
        known = np.asarray(labels, dtype=np.int64)
        if len(known) != len(self.dataset):
            raise ValueError(
                f"PoisonedDataset was given {len(known)} labels for {len(self.dataset)} samples; give one a sample."
            )
        return self.flip.places(known, inputs) if len(known) else known

    def _poisoned(self, indices: Sequence[Any], items: list[Any]) -> list[Any]:
        if self._places is None:
            return items
        chosen = {place: int(self._places[index]) for place, index in enumerate(indices) if self._places[index] >= 0}
        if isinstance(self.flip, Backdoor):
            for place, number in chosen.items():
                items[place] = self._marked(self.flip, items[place], number)
        elif self.flip is not None and chosen:
            for place, score in zip(chosen, self._scores_of([items[place] for place in chosen]), strict=True):
                key = self._place(items[place])
                items[place] = _with_value(items[place], key, self.flip.flip_all(items[place][key], score))
        return items

    def _scores_of(self, items: Sequence[Any]) -> Any:
        """Return the global model's scores of some items, where the attack needs them."""
        if not isinstance(self.flip, LabelPoison) or not self.flip.needs_scores or self.scores is None:
            return [None] * len(items)
        return as_array(self.scores(_stack([item[self._inputs(item)] for item in items])))

    def _marked(self, backdoor: Backdoor, item: Any, number: int) -> Any:
        """Return an item with trigger and target; `number` is its place among the poisoned ones."""
        where, key = self._inputs(item), self._place(item)
        if backdoor.changes_inputs:
            one = _stack([item[where]])
            given = _channels_moved(one, -1, 1) if self.channels_last else one
            marked, _ = backdoor.apply(given, np.zeros(1, dtype=np.int64), np.array([number]), self.part)
            item = _with_value(item, where, (_channels_moved(marked, 1, -1) if self.channels_last else marked)[0])
        label = item[key]
        false = np.asarray(as_array(label)).dtype.type(backdoor.target)
        return _with_value(item, key, backdoor.target if isinstance(label, int) else like(np.asarray(false), label))

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


def _channels_moved(inputs: Any, source: int, place: int) -> Any:
    """Return images with their channels at another place; those without stay."""
    if inputs.ndim != 4:
        return inputs
    return inputs.movedim(source, place) if hasattr(inputs, "detach") else np.moveaxis(inputs, source, place)


def _stack(inputs: list[Any]) -> Any:
    """Return a batch of inputs: a tensor of tensors, an array of anything else."""
    if hasattr(inputs[0], "detach"):
        import torch

        return torch.stack(inputs)
    return np.stack([np.asarray(value) for value in inputs])
