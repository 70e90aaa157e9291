"""Backdoors of a run: what its arguments leave open, names for edge inputs and for conditions, and deliveries."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from clients.attacks import AlterMin, Attack, Backdoor, EdgeCase, SemanticLabelSwap, from_spec
from clients.attacks.base import as_array
from simulations.config.catalog import CHARACTERS, DATASETS, DatasetSpec, normalisation_of

# Arguments of a backdoor that name how malicious nodes deliver what they trained: ``delivery=pgd delivery.radius=2``.
DELIVERY = "delivery"
# What edge inputs may be beside those of another data set: samples of a class, turned by a right angle.
TURNED = "turned"
CONDITIONS = ("bright", "dark", "ends")


def split_delivery(given: dict[str, Any]) -> tuple[dict[str, Any], str | None, dict[str, Any]]:
    """Return an attack's own arguments, the name of its delivery, and the arguments of that."""
    prefix = f"{DELIVERY}."
    own = {key: value for key, value in given.items() if key != DELIVERY and not key.startswith(prefix)}
    inner = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    return own, given.get(DELIVERY), inner


def make_delivery(name: str | None, arguments: dict[str, Any], seed: int, backdoor: bool) -> Attack | None:
    """Make what takes the poisoned updates past the server; None without a name.

    Raises
    ------
    ValueError
        If there is no such attack, it makes no updates, or there is nothing to deliver.
    """
    if name is None:
        if arguments:
            raise ValueError(f"delivery.{next(iter(arguments))} was given without a delivery; add delivery=NAME.")
        return None
    if not backdoor:
        raise ValueError(f"delivery={name!r} needs an attack that poisons data; leave it out, or give such an attack.")
    made = from_spec(name, arguments)
    if not made.makes_updates and not isinstance(made, AlterMin):
        raise ValueError(f"delivery={name!r} delivers nothing; give model-replacement, pgd, neurotoxin or alter-min.")
    if "seed" in inspect.signature(type(made)).parameters and "seed" not in arguments:
        made = from_spec(name, {**arguments, "seed": seed})
    return made


def complete(kind: type[Attack], given: dict[str, Any], spec: DatasetSpec, normalisation: str, edge: Any) -> None:
    """Fill in what the arguments of a backdoor leave open, for a data set's samples.

    The target is class 0, pixels become white (characters the last that there is), edge inputs are those given, of the
    shape of a sample where none are at hand yet, and a condition is made from its name.

    Raises
    ------
    ValueError
        If a condition or the name of edge inputs is none.
    """
    parameters = inspect.signature(kind).parameters
    given.setdefault("target", 0)
    if "value" in parameters:
        given.setdefault("value", spec.num_classes - 1 if spec.is_text else white(spec, normalisation))
    if issubclass(kind, EdgeCase):
        edge_source(given, spec)
        given["edge"] = np.zeros((1, *spec.shape), dtype=np.float32) if edge is None else edge
    if issubclass(kind, SemanticLabelSwap):
        given["condition"] = Condition.of(str(given.get("condition", "ends:the" if spec.is_text else "bright")), spec)


def require_fit(backdoor: Backdoor, spec: DatasetSpec) -> None:
    """Raise ValueError unless classes exist and the trigger fits the data set's samples."""
    for name in ("target", "source"):
        label = getattr(backdoor, name, None)
        if label is not None and label >= spec.num_classes:
            raise ValueError(f"{name}={label} is no class of {spec.name}; give 0 to {spec.num_classes - 1}.")
    if spec.is_text and type(backdoor).__name__ == "Blended":
        raise ValueError(f"Blended mixes pixels, and {spec.name} has texts; use badnets or semantic-label-swap.")
    sample = np.zeros((1, *spec.shape), dtype=np.int64 if spec.is_text else np.float32)
    backdoor.apply(sample, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


def white(spec: DatasetSpec, normalisation: str) -> tuple[float, ...]:
    """Return what a white pixel is after normalisation, one number a channel."""
    mean, std = normalisation_of(spec, normalisation)
    return tuple((1.0 - centre) / width for centre, width in zip(mean, std, strict=True))


@dataclass(frozen=True)
class EdgeSource:
    """Where edge inputs come from."""

    dataset: str
    label: int | None = None
    """Of the run's own data set, the class whose samples are turned; of another, all."""


def edge_source(given: dict[str, Any], spec: DatasetSpec) -> EdgeSource:
    """Read ``edge=turned:7`` or ``edge=fashion-mnist``; by default the class after the target is turned.

    Raises
    ------
    ValueError
        If it names neither another data set with such samples nor a class.
    """
    target = given.get("target", 0)
    text = str(given.get("edge", f"{TURNED}:{(int(target) + 1) % spec.num_classes}"))
    word, _, label = text.partition(":")
    if word == TURNED and label.isdecimal() and int(label) < spec.num_classes and int(label) != target:
        if not spec.is_text:
            return EdgeSource(spec.name, int(label))
    elif text in DATASETS and text != spec.name and DATASETS[text].shape == spec.shape:
        return EdgeSource(text)
    others = [name for name, its in DATASETS.items() if its.shape == spec.shape and name != spec.name]
    allowed = ([] if spec.is_text else [f"{TURNED}:CLASS, of another class than the target"]) + others
    told = " or ".join(allowed) or "another attack"
    raise ValueError(f"edge={text!r} names no edge inputs for {spec.name}; give {told}.")


@dataclass(frozen=True)
class Condition:
    """What samples have in common: ``bright`` or ``dark`` images, ``bright:7`` those of a class, texts by their end."""

    text: str
    label: int | None = None
    ending: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str, spec: DatasetSpec) -> Condition:
        """Read its name.

        Raises
        ------
        ValueError
            If it is none for such samples.
        """
        word, _, detail = text.partition(":")
        if spec.is_text and word == "ends" and detail and set(detail) <= set(CHARACTERS):
            return cls(text, ending=tuple(CHARACTERS.index(one) + 1 for one in detail))
        known = not detail or (detail.isdecimal() and int(detail) < spec.num_classes)
        if not spec.is_text and word in ("bright", "dark") and known:
            return cls(text, int(detail) if detail else None)
        allowed = "ends:CHARACTERS" if spec.is_text else "bright or dark, of a class as in bright:7"
        raise ValueError(f"condition={text!r} is none for {spec.name}; give {allowed}.")

    def __call__(self, inputs: Any, labels: Any) -> Any:
        """Return which samples meet it: bright images have a mean above the data set's."""
        given, true = np.asarray(as_array(inputs)), np.asarray(as_array(labels))
        if self.ending:
            return (given[:, -len(self.ending) :] == self.ending).all(axis=1)
        mean = given.reshape(len(given), -1).mean(axis=1)
        met = mean > 0 if self.text.startswith("bright") else mean < 0
        return met if self.label is None else met & (true == self.label)
