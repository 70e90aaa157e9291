"""Attacks by name, for configuration files and command lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

from flwr_robust.rules.plugins import find
from flwr_robust.rules.registry import did_you_mean

from .base import Attack
from .byzmean import ByzMean
from .deliveries import PGD, AlterMin, ModelReplacement, Neurotoxin
from .fang import FangKrum, FangTrimmedMean
from .faults import Garbage, NonFinite, Scaled, Silent, WrongShape
from .labels import DynamicLabelFlip, LabelFlip
from .masking import Masking
from .mimic import Mimic
from .noise import Gaussian, Noise, Random
from .perturbations import MinMax, MinSum, TailoredTrimmedMean
from .rare import EdgeCase, SemanticLabelSwap
from .shifts import ALittleIsEnough, FallOfEmpires, Lie, SignFlip
from .tailored import PoolAttack, RandomEpsilon, Tailored
from .triggers import DBA, BadNets, Blended
from .tuning import Optimal

Made = TypeVar("Made", bound=type[Attack])

REGISTRY: dict[str, type[Attack]] = {
    "alie": ALittleIsEnough,
    "alter-min": AlterMin,
    "badnets": BadNets,
    "blended": Blended,
    "byzmean": ByzMean,
    "dba": DBA,
    "dynamic-label-flip": DynamicLabelFlip,
    "edge-case": EdgeCase,
    "fang-krum": FangKrum,
    "fang-trimmed-mean": FangTrimmedMean,
    "foe": FallOfEmpires,
    "garbage": Garbage,
    "gaussian": Gaussian,
    "label-flip": LabelFlip,
    "lie": Lie,
    "masking": Masking,
    "mimic": Mimic,
    "min-max": MinMax,
    "min-sum": MinSum,
    "model-replacement": ModelReplacement,
    "neurotoxin": Neurotoxin,
    "noise": Noise,
    "non-finite": NonFinite,
    "optimal": Optimal,
    "pgd": PGD,
    "pool": PoolAttack,
    "random": Random,
    "random-epsilon": RandomEpsilon,
    "scaled": Scaled,
    "semantic-label-swap": SemanticLabelSwap,
    "sign-flip": SignFlip,
    "silent": Silent,
    "tailored": Tailored,
    "tailored-trimmed-mean": TailoredTrimmedMean,
    "wrong-shape": WrongShape,
}
# Entry points of other packages' attacks.
GROUP = "flwr_robust.attacks"
ALIASES: dict[str, str] = {"a-little-is-enough": "alie", "fall-of-empires": "foe", "ipm": "foe"}


def register(kind: Made, name: str | None = None) -> Made:
    """Put an attack of yours into `REGISTRY`; also as a decorator. By default it is called as its class, ``my-attack``.

    Raises
    ------
    ValueError
        If it is no such class, or its name is that of another one.
    """
    if not (isinstance(kind, type) and issubclass(kind, Attack)):
        raise ValueError(f"register was given {kind!r}; give a dataclass derived from clients.attacks.Attack.")
    called = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()
    if called in ALIASES or REGISTRY.setdefault(called, kind) is not kind:
        raise ValueError(f"there is an attack {called!r} already: give {kind.__name__} another name.")
    return kind


def look_up(name: object) -> type[Attack] | None:
    """Return the attack that a name of `REGISTRY`, `ALIASES` or a plugin, or ``package.module:Name``, stands for.

    None where there is nothing of that name.

    Raises
    ------
    ValueError
        If a module cannot be imported, or the name stands for something else than an attack.
    """
    if not isinstance(name, str):
        return None
    found = REGISTRY.get(ALIASES.get(name, name)) or find(name, GROUP)
    if found is not None and not (isinstance(found, type) and issubclass(found, Attack)):
        raise ValueError(f"{name!r} is {found!r}: give a dataclass derived from clients.attacks.Attack.")
    return found


def from_spec(name: str, args: Mapping[str, Any] | None = None) -> Attack:
    """Make an attack from its name and parameters.

    Parameters
    ----------
    name : str
        A key of `REGISTRY` or `ALIASES`, ``package.module:Name``, or the name of a plugin.
    args : mapping, optional
        The constructor's parameters; ``num-classes`` is read as ``num_classes``. The base of ByzMean and Optimal may
        be given by name, with its parameters as ``base.tau``.

    Returns
    -------
    Attack

    Raises
    ------
    ValueError
        If the name or a parameter is unknown, a required parameter is missing, or a value is wrong.

    Examples
    --------
    >>> from_spec("foe", {"tau": 1.5}).tau
    1.5
    """
    attack = look_up(name)
    if attack is None:
        known = sorted([*REGISTRY, *ALIASES])
        raise ValueError(f"there is no attack {name!r}{did_you_mean(name, known)}; give one of {', '.join(known)}.")
    given = _with_base({key.replace("-", "_"): value for key, value in (args or {}).items()})
    parameters: dict[str, Field[Any]] = {
        parameter.name: parameter
        for parameter in fields(attack)  # type: ignore[arg-type]
        if parameter.init
    }
    for key in given:
        if key not in parameters:
            allowed = ", ".join(parameters) or "no parameters"
            guess = did_you_mean(key, parameters)
            raise ValueError(f"attack {name!r} has no parameter {key!r}{guess}; it takes {allowed}.")
    for key, parameter in parameters.items():
        if key not in given and parameter.default is MISSING and parameter.default_factory is MISSING:
            raise ValueError(f"attack {name!r} needs the parameter {key!r}, which was not given; add it.")
    return attack(**given)


def _with_base(given: dict[str, Any]) -> dict[str, Any]:
    """Replace the name and the parameters of a base attack by the attack."""
    inner = {key.removeprefix("base."): value for key, value in given.items() if key.startswith("base.")}
    outer = {key: value for key, value in given.items() if not key.startswith("base.")}
    if inner or isinstance(outer.get("base"), str):
        outer["base"] = from_spec(outer.get("base", "lie"), inner)
    return outer
