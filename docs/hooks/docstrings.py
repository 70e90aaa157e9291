"""Griffe extension: what our docstrings leave to the reader's eye becomes what mkdocstrings can show.

Named strategies get the docstrings that they have at run time, parameters of their rules included; names in single
backticks become links, where the site documents what they name; prose under *Returns* becomes the description of what
the signature returns.
"""

from __future__ import annotations

import importlib
import inspect
import re
from textwrap import indent
from typing import Any

from griffe import (
    Class,
    Docstring,
    Extension,
    Function,
    GriffeLoader,
    Module,
    NameResolutionError,
    Object,
    Parameter,
    ParameterKind,
    Parameters,
    Parser,
)

_NAME = re.compile(r"(?<![`\w])`([A-Za-z_]\w*(?:\.\w+)*)`(?!`)")
# A Returns section of unindented prose, and not of a type, with its description indented below.
_RETURNS = re.compile(r"^(Returns\n-+\n)(\S.* .*(?:\n|\Z)(?:\S.*(?:\n|\Z))*+)(?![ \t])", re.MULTILINE)
# Modules whose classes compose their docstrings when they are made, which Griffe, which runs nothing, does not see.
COMPOSED = ("flwr_robust.strategies.named",)
# Where a name is looked for that the docstring's own module does not know.
PACKAGES = ("flwr_robust", "flwr_robust.rules", "flwr_robust.rules.base", "clients", "clients.attacks")


class Docstrings(Extension):
    """Prepares the docstrings of a package once all its modules are read."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: Any) -> None:
        """Take over the docstrings that are composed, and link the names in all of them."""
        for path in COMPOSED:
            if path.startswith(f"{pkg.path}."):
                _take_over(loader.modules_collection.get_member(path))
        _prepare(pkg, loader)


def _take_over(module: Module) -> None:
    """Give the classes of a module the docstrings, and the constructors, that they have at run time."""
    real = importlib.import_module(module.path)
    for name, member in module.members.items():
        if isinstance(member, Class):
            kind = getattr(real, name)
            text = inspect.cleandoc(kind.__doc__)
            member.docstring = Docstring(text, parent=member, parser=Parser.numpy)
            if "__init__" in vars(kind) and "__init__" not in member.members:
                member.set_member("__init__", _constructor(kind))


def _constructor(kind: type) -> Function:
    """Return the constructor that a class was given when it was made."""
    parameters = [
        Parameter(
            parameter.name,
            kind=ParameterKind(parameter.kind.description),
            annotation=str(parameter.annotation) if parameter.annotation is not parameter.empty else None,
            default=repr(parameter.default) if parameter.default is not parameter.empty else None,
        )
        for parameter in inspect.signature(kind.__init__).parameters.values()
    ]
    return Function("__init__", parameters=Parameters(*parameters), returns="None")


def _prepare(owner: Object, loader: GriffeLoader) -> None:
    if owner.docstring:
        text = _NAME.sub(lambda found: _link(found[1], owner, loader), owner.docstring.value)
        if isinstance(owner, Function):
            text = _RETURNS.sub(lambda found: f"{found[1]}{owner.returns}\n{indent(found[2], '    ')}", text)
        owner.docstring.value = text
    for name, member in list(owner.members.items()):
        if name == "__repr__":
            del owner.members[name]
        elif isinstance(member, Object):
            _prepare(member, loader)


def _link(name: str, owner: Object, loader: GriffeLoader) -> str:
    target = _find(name, owner, loader)
    # Optional: what the site does not document stays code.
    return f'<autoref identifier="{target}" optional><code>{name}</code></autoref>' if target else f"`{name}`"


def _find(name: str, owner: Object, loader: GriffeLoader) -> str | None:
    """Return the full path of a name in a docstring; None where it names a parameter, say."""
    first = name.partition(".")[0]
    if first in ("flwr_robust", "clients"):
        return name
    try:
        return owner.resolve(first) + name.removeprefix(first)
    except NameResolutionError:
        return next((f"{home}.{name}" for home in PACKAGES if _holds(home, first, loader)), None)


def _holds(package: str, name: str, loader: GriffeLoader) -> bool:
    try:
        return name in loader.modules_collection.get_member(package).members
    except KeyError:
        return False
