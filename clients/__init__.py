"""Malicious behaviour for Flower: attacks (mathematics), a colluding adversary, and mods for single clients.

A project with a package `clients` of its own imports the same as `flwr_robust.clients`, which is what this name stands
for: there is one module of each, whatever it is imported as.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import attacks as attacks
    from . import mods as mods
    from .adversary import Adversary as Adversary
    from .data import PoisonedDataset as PoisonedDataset
    from .data import frozen_scores as frozen_scores
    from .data import poisoned as poisoned
    from .data import poisoned_labels as poisoned_labels
    from .numpy_client import MaliciousNumPyClient as MaliciousNumPyClient
    from .numpy_client import malicious_client_fn as malicious_client_fn

HOME = "flwr_robust.clients"


class _SameModules(MetaPathFinder, Loader):
    """Finds ``clients.x`` as ``flwr_robust.clients.x``."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        ours = rest and package == "clients" and sys.modules.get(package) is sys.modules[HOME]
        return ModuleSpec(name, self) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"{HOME}.{spec.name.partition('.')[2]}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module has run already, under its own name, which it keeps.
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


if __name__ == "clients":
    sys.modules[__name__] = import_module(HOME)
    sys.meta_path.insert(0, _SameModules())
