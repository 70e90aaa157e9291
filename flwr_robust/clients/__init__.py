"""Malicious behaviour for Flower, under a name that no project's own package `clients` can take the place of.

The modules are those of the package `clients` beside this one, and there is one of each: ``import clients`` gives this
very package, unless another `clients` is found first.

Examples
--------
>>> from flwr_robust.clients import attacks, mods
>>> mods.AttackMod(attacks.Scaled(10.0)).attack
Scaled(factor=10.0)
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path

__path__ = [str(_Path(__file__).resolve().parents[2] / "clients")]

for _home, _names in {
    "adversary": ("Adversary",),
    "data": ("PoisonedDataset", "frozen_scores", "poisoned", "poisoned_labels"),
    "numpy_client": ("MaliciousNumPyClient", "malicious_client_fn"),
}.items():
    _module = _import_module(f"{__name__}.{_home}")
    globals().update({_name: getattr(_module, _name) for _name in _names})

attacks = _import_module(f"{__name__}.attacks")
mods = _import_module(f"{__name__}.mods")

__all__ = [
    "Adversary",
    "MaliciousNumPyClient",
    "PoisonedDataset",
    "attacks",
    "frozen_scores",
    "malicious_client_fn",
    "mods",
    "poisoned",
    "poisoned_labels",
]
