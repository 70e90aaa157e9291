"""Griffe extension: what our docstrings leave to the reader's eye becomes what mkdocstrings can show.

Names in single backticks become links, where the site documents what they name; prose under *Returns* becomes the
description of what the signature returns; methods that only point to their base class are left to it.
"""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

from griffe import Class, Extension, Function, GriffeLoader, Module, NameResolutionError, Object

_NAME = re.compile(r"(?<![`\w])`([A-Za-z_]\w*(?:\.\w+)*)`(?!`)")
# A Returns section of unindented prose, and not of a type, with its description indented below.
_RETURNS = re.compile(r"^(Returns\n-+\n)(\S.* .*(?:\n|\Z)(?:\S.*(?:\n|\Z))*+)(?![ \t])", re.MULTILINE)
# Where a name is looked for that the docstring's own module does not know.
PACKAGES = ("flwr_robust", "flwr_robust.rules", "flwr_robust.rules.base", "clients", "clients.attacks")


class Docstrings(Extension):
    """Prepares the docstrings of a package once all its modules are read."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: Any) -> None:
        """Link the names in all docstrings."""
        _prepare(pkg, loader)


def _prepare(owner: Object, loader: GriffeLoader) -> None:
    if owner.docstring:
        text = _NAME.sub(lambda found: _link(found[1], owner, loader), owner.docstring.value)
        if isinstance(owner, Function):
            text = _RETURNS.sub(lambda found: f"{found[1]}{owner.returns}\n{indent(found[2], '    ')}", text)
        owner.docstring.value = text
    for name, member in list(owner.members.items()):
        if isinstance(member, Function) and isinstance(owner, Class) and _says_nothing_new(member):
            del owner.members[name]
        elif isinstance(member, Object):
            _prepare(member, loader)


def _says_nothing_new(method: Function) -> bool:
    """Whether a method is described in full at its base class, where its docstring points."""
    text = method.docstring.value if method.docstring else ""
    return method.name == "__repr__" or text.startswith("See `")


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
