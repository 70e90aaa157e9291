"""Every public class, function and method says what it does, once: where it is made, or where it is overridden."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from functools import cache

import pytest

import flwr_robust.clients
import simulations

PACKAGES = [flwr_robust, flwr_robust.clients, simulations]
POINTS_ELSEWHERE = re.compile(r"See `[^`]*`[.;]?\s*")


@cache
def public(package):
    """Public classes and functions by address, each where it is made."""
    found = {}
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            module = importlib.import_module(info.name)
        except ModuleNotFoundError:
            continue  # one that needs an extra: tests/test_imports.py says which may
        things = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
        found |= {
            f"{module.__name__}.{name}": thing
            for name, thing in things.items()
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and thing.__module__ == module.__name__
        }
    return found


def methods(kind):
    """Public methods and properties of a class's own, by name."""
    found = {}
    for name, thing in vars(kind).items():
        function = getattr(thing, "__func__", thing)
        written = isinstance(function, property) or getattr(function, "__module__", None) == kind.__module__
        if written and not name.startswith("_") and (isinstance(function, property) or inspect.isroutine(function)):
            found[name] = function
    return found


def is_protocol(kind):
    return getattr(kind, "_is_protocol", False)


def undocumented_methods(package):
    classes = {address: kind for address, kind in public(package).items() if inspect.isclass(kind)}
    protocols = [kind for kind in classes.values() if is_protocol(kind)]
    # Classes fit a protocol without inheriting from it, and protocols restate what the class they name describes.
    shared = {name for kind in protocols for name, function in methods(kind).items() if function.__doc__}
    for address, kind in classes.items():
        for name, function in methods(kind).items() if kind not in protocols else ():
            inherited = any(getattr(vars(base).get(name), "__doc__", None) for base in kind.__mro__[1:])
            if not (function.__doc__ or inherited or name in shared):
                yield f"{address}.{name}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_has_a_docstring_of_its_own_or_an_inherited_one(package):
    assert len(public(package)) > 40
    without = [address for address, thing in public(package).items() if not thing.__doc__]
    assert without + list(undocumented_methods(package)) == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_no_docstring_only_points_elsewhere(package):
    texts = {address: thing.__doc__ for address, thing in public(package).items()}
    for address, thing in public(package).items():
        if inspect.isclass(thing):
            texts |= {f"{address}.{name}": function.__doc__ for name, function in methods(thing).items()}
    assert [address for address, text in texts.items() if text and POINTS_ELSEWHERE.fullmatch(text)] == []
