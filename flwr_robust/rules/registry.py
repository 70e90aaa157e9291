"""Rules and chains by name, as the command line and the run configuration give them."""

from __future__ import annotations

import inspect
import re
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from flwr_robust.rules.base import PreAggregation, Rule, Stage, chain
from flwr_robust.rules.function import Function
from flwr_robust.rules.plugins import find

# Entry points of other packages' rules.
GROUP = "flwr_robust.rules"
Made = TypeVar("Made", bound=type[Stage])

REGISTRY: dict[str, type[Stage]] = {}
"""Every rule and pre-aggregation under its name: rules first, each kind in alphabetical order."""


def collect(namespace: Mapping[str, Any]) -> None:
    """Put the rules and pre-aggregations of a module into `REGISTRY`: the classes that name their source."""
    found = {
        kind.name: kind
        for kind in namespace.values()
        if isinstance(kind, type) and issubclass(kind, Stage) and vars(kind).get("source")
    }
    REGISTRY.update(sorted(found.items(), key=lambda item: (issubclass(item[1], PreAggregation), item[0])))


def register(kind: Made) -> Made:
    """Put a rule or pre-aggregation of yours into `REGISTRY`, under its `name`; also as a decorator.

    Raises
    ------
    ValueError
        If it is no such class, or its name is that of another one.
    """
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise ValueError(f"register was given {kind!r}; give a class derived from a base of flwr_robust.rules.")
    if REGISTRY.setdefault(kind.name, kind) is not kind:
        raise ValueError(f"there is a rule {kind.name!r} already: give {kind.__name__} another name.")
    return kind


def look_up(name: str) -> Callable[..., Stage] | None:
    """Return what makes the stage of a name: a class of `REGISTRY`, ``package.module:Name``, or a plugin's.

    A function ``(n, d) array -> (d,)`` is taken for a rule. None where there is nothing of that name.

    Raises
    ------
    ValueError
        If a module cannot be imported, or what the name stands for makes no stage.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    found = find(name, GROUP)
    if found is None or (isinstance(found, type) and issubclass(found, Stage)):
        return found
    if isinstance(found, type) or not callable(found):
        raise ValueError(
            f"{name!r} is {found!r}: give a class derived from a base of flwr_robust.rules, or a function."
        )

    def make(f: int | float = 0) -> Stage:
        return Function(found, f)

    return make


def parse_args(text: str) -> dict[str, Any]:
    """Read ``"max_norm=2.0 bucketing.s=2"`` (spaces or commas between) into a dictionary.

    Values are Python literals; anything else is a string. Dashes in names are underscores.

    Raises
    ------
    ValueError
        If a part is not ``name=value``, or a name comes twice.
    """
    found: dict[str, Any] = {}
    for part in filter(None, re.split(r"[\s,]+(?![^\[(]*[\])])", text.strip())):
        name, equals, value = part.partition("=")
        key = name.strip().replace("-", "_")
        if not equals or not key or not value or key in found:
            raise ValueError(f"cannot read {part!r} in {text!r}; give name=value once each, as in 's=2 max_norm=1.5'.")
        try:
            found[key] = literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def from_spec(spec: str, f: int | float = 0, args: Mapping[str, Any] | None = None) -> Rule:
    """Build a rule or chain from ``"arc+nnm+trimmed-mean"``, in the order of application.

    Parameters
    ----------
    spec : str
        Names of `REGISTRY`, of plugins, or places such as ``package.module:Name``, joined by ``+``; the last is a rule.
    f : int or float
        Given to every stage that takes it.
    args : mapping, optional
        Further arguments: ``{"max_norm": 2.0}`` goes to every stage that takes it,
        ``{"bucketing.s": 2}`` to that stage alone.

    Raises
    ------
    ValueError
        If a name or an argument is unknown, or the order is not pre-aggregations and then one rule.
    """
    names = [part.strip() if ":" in part else part.strip().lower() for part in spec.split("+")]
    for name in names:
        if look_up(name) is None:
            raise ValueError(
                f"{spec!r} names {name!r}{did_you_mean(name, REGISTRY)}; choose from {', '.join(REGISTRY)}, joined "
                "by '+'."
            )
    shared, own = _split_args(names, args or {})
    made = chain(*(_make(name, f, {**shared, **own.get(name, {})}) for name in names))
    if isinstance(made, PreAggregation):
        raise ValueError(f"{spec!r} ends with a pre-aggregation; end it with a rule, as in {spec + '+trimmed-mean'!r}.")
    assert isinstance(made, Rule)
    return made


def _split_args(names: list[str], args: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    shared: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in args.items():
        stage, dot, parameter = key.rpartition(".")
        stage = stage.replace("_", "-")
        takers = [name for name in names if parameter in _parameters(name) and stage in ("", name)]
        if not takers:
            allowed = sorted({f"{name}.{p}" for name in names for p in _parameters(name)})
            raise ValueError(
                f"no stage of {'+'.join(names)!r} takes {key!r}; "
                + (f"choose from {', '.join(allowed)}." if allowed else "none of them takes an argument.")
            )
        if dot:
            own.setdefault(stage, {})[parameter] = value
        else:
            shared[parameter] = value
    return shared, own


def _parameters(name: str) -> set[str]:
    return set(inspect.signature(_known(name)).parameters)


def _make(name: str, f: int | float, arguments: dict[str, Any]) -> Stage:
    takes = _parameters(name)
    given = {key: value for key, value in arguments.items() if key in takes}
    if "f" in takes:
        given.setdefault("f", f)
    try:
        return _known(name)(**given)
    except TypeError as error:
        raise ValueError(f"{name!r} could not be made from {given}: {error}.") from error


def _known(name: str) -> Callable[..., Stage]:
    found = look_up(name)
    assert found is not None
    return found


def did_you_mean(given: object, names: Iterable[str]) -> str:
    """Return ``" (did you mean ...?)"`` where one of the names is close to what was given, else nothing."""
    close = get_close_matches(str(given), list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
