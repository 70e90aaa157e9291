"""Rules, attacks and the like that are not this package's: by ``package.module:Name``, or from installed plugins."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


def find(name: str, group: str) -> Any:
    """Return what a name stands for; None where it is neither a place in a module nor that of a plugin.

    Parameters
    ----------
    name : str
        ``"package.module:Name"``, or the name of an entry point.
    group : str
        Entry points that count, such as ``"flwr_robust.rules"``.

    Raises
    ------
    ValueError
        If the module cannot be imported, or has nothing of that name.
    """
    if ":" in name:
        return _imported(name)
    for point in entry_points(group=group):
        if point.name == name:
            return _imported(point.value)
    return None


def plugins(group: str) -> dict[str, str]:
    """Return the names of the installed plugins of a group, and the packages that they are from."""
    return {
        point.name: point.dist.name if point.dist else point.module.partition(".")[0]
        for point in entry_points(group=group)
    }


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        # As `python -m` does: console commands leave the folder out in which they are called.
        sys.path.append(here)
    try:
        found = import_module(module)
    except Exception as error:
        raise ValueError(
            f"{place!r} cannot be imported: {type(error).__name__}: {error}. Give package.module:Name, of a module "
            "that Python finds."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{place!r}: the module {module} has no {part!r}.")
        found = getattr(found, part)
    return found
