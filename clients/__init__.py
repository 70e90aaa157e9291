"""Malicious behaviour for Flower: attacks (mathematics), a colluding adversary, and mods for single clients.

The names below are imported on first use, so that ``from clients import attacks`` needs no Flower, and
nothing here needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients import attacks, mods
    from clients.adversary import Adversary
    from clients.data import PoisonedDataset, frozen_scores, poisoned_labels
    from clients.numpy_client import MaliciousNumPyClient, malicious_client_fn

_HOMES = {
    "Adversary": "clients.adversary",
    "MaliciousNumPyClient": "clients.numpy_client",
    "PoisonedDataset": "clients.data",
    "frozen_scores": "clients.data",
    "malicious_client_fn": "clients.numpy_client",
    "poisoned_labels": "clients.data",
}

__all__ = [
    "Adversary",
    "MaliciousNumPyClient",
    "PoisonedDataset",
    "attacks",
    "frozen_scores",
    "malicious_client_fn",
    "mods",
    "poisoned_labels",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in ("attacks", "mods"):
        return import_module(f"clients.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
