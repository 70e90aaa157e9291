"""Attacks that are not this package's: by a place in a module, from installed plugins, and registered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest

from clients import attacks
from clients.attacks import registry
from flwr_robust.rules import plugins


@dataclass(frozen=True)
class ByHand(attacks.Attack):
    knows: ClassVar[str] = "honest"
    size: float = 2.0

    def craft(self, sight):
        return np.tile(-self.size * sight.mean, (sight.f, 1))


def test_a_place_in_a_module_a_plugin_and_a_registered_class_are_names(monkeypatch):
    place = f"{__name__}:ByHand"
    assert attacks.from_spec(place, {"size": 3.0}).size == 3.0
    points = [EntryPoint("hand-made", place, registry.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == registry.GROUP else [])
    assert isinstance(attacks.from_spec("hand-made"), ByHand)
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))
    attacks.register(ByHand)
    assert attacks.from_spec("by-hand").size == 2.0
    honest = np.array([[1.0, 0.0], [3.0, 2.0]])
    assert attacks.from_spec("by-hand")(honest, 1).tolist() == [[-4.0, -2.0]]


def test_names_of_nothing(monkeypatch):
    for name, message in (
        ("sign-flop", "did you mean 'sign-flip'"),
        ("no_such_module:Attack", "cannot be imported: ModuleNotFoundError"),
        ("collections:OrderedDict", "give a dataclass derived from clients.attacks.Attack"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            attacks.from_spec(name)
    with pytest.raises(ValueError, match="there is an attack 'lie' already"):
        attacks.register(ByHand, "lie")
    with pytest.raises(ValueError, match="register was given 5"):
        attacks.register(5)
