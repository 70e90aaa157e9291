"""From names and arguments in a run configuration to attacks and rules."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeGuard

from clients import attacks, mods
from clients.attacks import Attack, Backdoor, LabelPoison
from flwr_robust import rules
from flwr_robust.rules import Rule
from flwr_robust.rules.mixtailor import default_pool
from flwr_robust.rules.registry import look_up
from simulations.config.backdoors import complete, make_delivery, split_delivery
from simulations.config.catalog import DatasetSpec
from simulations.wording import unknown

# Not an attack's own argument, but the adversary's: the share of honest updates that it sees.
SEES = "sees"
# Not MixTailor's own argument: the family that its pool does without.
WITHOUT = "without"
FAULT_MODS = (mods.NonFinite, mods.WrongShape, mods.Garbage, mods.Silent)


def make_attack(
    name: str, arguments: str, *, f: int, spec: DatasetSpec, normalisation: str, seed: int, edge: Any = None
) -> Attack:
    """Make an attack.

    What the arguments leave open is filled in: the number of classes, the seed and, for attacks that scale a
    direction by tau, the search for the most harmful tau, as in NNM and ARC; for backdoors, see
    `simulations.config.backdoors.complete`. A pool of rules may be given by names, as in ``pool=['krum','median']``.

    Raises
    ------
    ValueError
        If the attack or one of its arguments is unknown.
    """
    given, _, _ = split_delivery(rules.parse_args(arguments))
    given.pop(SEES, None)
    if isinstance(given.get("pool"), list | tuple):
        given["pool"] = [rules.from_spec(str(rule), f=f) for rule in given["pool"]]
    kind = attacks.look_up(name)
    parameters = inspect.signature(kind).parameters if kind is not None else {}
    for key, value in (("num_classes", spec.num_classes), ("seed", seed), ("tau", "optimal")):
        if key in parameters:
            given.setdefault(key, value)
    if kind is not None and issubclass(kind, Backdoor):
        complete(kind, given, spec, normalisation, edge)
    return attacks.from_spec(name, given)


def attack_delivery(arguments: str, attack: Attack | None, seed: int) -> Attack | None:
    """Return how malicious nodes deliver what they trained on poisoned data, as ``delivery=NAME`` says; None: as it is.

    Raises
    ------
    ValueError
        If it is no delivery, or the attack poisons no data.
    """
    _, name, inner = split_delivery(rules.parse_args(arguments))
    return make_delivery(name, inner, seed, poisons_data(attack))


def seen_share(name: str, arguments: str, poisons: bool) -> float | None:
    """Return the share of honest updates that the adversary sees, as ``attack-args="sees=0.5"`` says; None: all.

    Raises
    ------
    ValueError
        If it is no share, or the attack sees no updates because it poisons data and no more.
    """
    share = rules.parse_args(arguments).get(SEES)
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"sees={share!r} is no share of the honest updates; give a number in [0, 1].")
    if poisons:
        raise ValueError(f"attack {name!r} poisons data and sees no updates; leave sees out.")
    return float(share)


def poisons_data(attack: Attack | None) -> TypeGuard[LabelPoison | Backdoor]:
    """Whether the attack happens in the malicious nodes' own training data."""
    return attack is not None and attack.knows == "data"


def fault_mod(place: int) -> Any:
    """Return the fault of a malicious node: of the first one, the second one and so on, in turn."""
    return FAULT_MODS[place % len(FAULT_MODS)]()


def make_rule(name: str, arguments: str, *, f: int, seed: int) -> Rule:
    """Make a rule or chain that tolerates f malicious nodes, unless the arguments say ``f=...``.

    Raises
    ------
    ValueError
        If a rule or one of its arguments is unknown.
    """
    given = rules.parse_args(arguments)
    tolerated = given.pop("f", f)
    if WITHOUT in given:
        given["pool"] = _pool_without(str(given.pop(WITHOUT)), tolerated)
    stages = (look_up(part.strip()) for part in name.split("+"))
    if any(stage is not None and "seed" in inspect.signature(stage).parameters for stage in stages):
        given.setdefault("seed", seed)
    return rules.from_spec(name, f=tolerated, args=given)


def rule_name(spec: str) -> str:
    """Return the name of a rule or chain as tables have it: TrimmedMean for ``trimmed-mean``."""
    return "+".join(_class_name(part) for part in spec.split("+"))


def _class_name(part: str) -> str:
    return rules.REGISTRY[part].__name__ if part in rules.REGISTRY else part.rpartition(":")[2]


def _pool_without(family: str, f: int | float) -> Sequence[Rule]:
    """Return MixTailor's pool without one of its families (MixTailor, Figure 5)."""
    pool = default_pool(f)
    families = dict.fromkeys(rule.name for rule in pool)
    if family not in families:
        raise ValueError(unknown(f"{WITHOUT}={family!r}", family, families))
    return [rule for rule in pool if rule.name != family]
