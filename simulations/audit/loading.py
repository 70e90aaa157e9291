"""The components of a project, imported as Flower imports them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from flwr.supercore.object_ref import load_app

App = TypeVar("App")


class LoadError(Exception):
    """A component that cannot be loaded, or is none."""


def load(reference: str, kind: type[App], folder: str) -> App:
    """Import a component.

    Raises
    ------
    LoadError
        If there is none, or it is of another kind.
    """
    app = load_app(reference, LoadError, folder)
    if not isinstance(app, kind):
        raise LoadError(f"{reference} is a {type(app).__name__}; name a {kind.__name__}.")
    return app


def forget(folder: str) -> None:
    """Let the next import of the project's modules run them anew."""
    root = Path(folder).resolve()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).resolve().is_relative_to(root):
            del sys.modules[name]
