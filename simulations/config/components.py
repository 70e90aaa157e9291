"""From names in a run configuration to attacks and rules."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from simulations.config.catalog import DATASETS, FAULTS, NO_ATTACK
from simulations.wording import unknown

if TYPE_CHECKING:
    from simulations.config.run_config import RunConfig

# Not the attack's own, but the adversary's: the share of honest updates that it sees.
SEES = "sees"
# Not MixTailor's own: the family that its pool does without.
WITHOUT = "without"


def build_attack(config: RunConfig, seed: int | None = None) -> Any | None:
    """Build the attack of a run, or return None if nobody attacks (or by `fault_mod` alone).

    What ``attack-args`` leaves open is filled in: the number of classes, the run's seed (or the one given)
    and, for attacks that scale a direction by tau, the search for the most harmful tau, as in NNM and ARC.
    A pool of rules may be given by names, as in ``pool=['krum','median']``.

    Raises
    ------
    ValueError
        If the attack or one of its arguments is unknown.
    """
    from clients import attacks
    from flwr_robust import rules

    if config.attack in (NO_ATTACK, FAULTS):
        return None
    arguments = rules.parse_args(config.attack_args)
    arguments.pop(SEES, None)
    if isinstance(arguments.get("pool"), list | tuple):
        arguments["pool"] = [rules.from_spec(str(name), f=config.num_malicious) for name in arguments["pool"]]
    name = attacks.ALIASES.get(config.attack, config.attack)
    if name in attacks.REGISTRY and config.dataset in DATASETS:
        parameters = inspect.signature(attacks.REGISTRY[name]).parameters
        fill_in: dict[str, Any] = {
            "num_classes": DATASETS[config.dataset].num_classes,
            "seed": config.seed if seed is None else seed,
            "tau": "optimal",
        }
        for key, value in fill_in.items():
            if key in parameters:
                arguments.setdefault(key, value)
    attack = attacks.from_spec(config.attack, arguments)
    return attack if config.num_malicious else None


def fault_mod(place: int) -> Any:
    """Return the fault of a malicious node: of the first one, the second one and so on, in turn."""
    from clients import mods

    faults = (mods.NonFinite, mods.WrongShape, mods.Garbage, mods.Silent)
    return faults[place % len(faults)]()


def seen_share(config: RunConfig) -> float | None:
    """Return the share of honest updates that the adversary sees, as ``attack-args="sees=0.5"`` says; None: all.

    Raises
    ------
    ValueError
        If it is no share, or nothing is seen at all because the attack poisons data.
    """
    from flwr_robust import rules

    share = rules.parse_args(config.attack_args).get(SEES)
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"sees = {share!r} is no share of the honest updates; give a number in [0, 1].")
    if poisons_data(build_attack(config)):
        raise ValueError(f"attack {config.attack!r} poisons data and looks at no updates; leave sees out.")
    return float(share)


def poisons_data(attack: Any | None) -> bool:
    """Whether the attack happens in the malicious nodes' own training data."""
    return attack is not None and attack.knows == "data"


def tolerated(config: RunConfig, num_nodes: int | None = None) -> int:
    """Return the f of the defence: the malicious nodes that are to be expected among those asked in a round.

    All of them where all nodes are asked. Where a share is drawn, their number varies from round to round; the
    defence is given its mean, rounded up, as in LASA (section 5: the attack ratio is a share of those asked).
    Without a number of nodes, all malicious ones.
    """
    if num_nodes is None or config.fraction_train == 1:
        return config.num_malicious
    return math.ceil(config.num_malicious * config.asked(num_nodes) / num_nodes - 1e-9)


def least_nodes(config: RunConfig) -> int:
    """Return the least number of nodes for which attack and defence make sense."""

    def enough(num_nodes: int) -> bool:
        return bool(build_rule(config, num_nodes).min_rows <= config.asked(num_nodes))

    least = most = 2 * config.num_malicious + 1
    while not enough(most):
        most *= 2
    # The more nodes there are, the more are asked, and the fewer of these are malicious.
    return bisect_left(range(most), True, lo=least, key=enough)


def build_rule(config: RunConfig, num_nodes: int | None = None) -> Any:
    """Build the rule or chain that defends a run with so many nodes.

    It tolerates as many malicious nodes as `tolerated` says, unless ``defense-args`` says ``f=...``. Random
    rules take the run's seed.

    Raises
    ------
    ValueError
        If a rule or one of its arguments is unknown.
    """
    from flwr_robust import rules

    arguments = rules.parse_args(config.defense_args)
    f = arguments.pop("f", tolerated(config, num_nodes))
    if WITHOUT in arguments:
        arguments["pool"] = _pool_without(str(arguments.pop(WITHOUT)), f)
    stages = (rules.REGISTRY.get(name.strip().lower()) for name in config.defense.split("+"))
    if any(stage is not None and "seed" in inspect.signature(stage).parameters for stage in stages):
        arguments.setdefault("seed", config.seed)
    return rules.from_spec(config.defense, f=f, args=arguments)


def _pool_without(family: str, f: int | float) -> list[Any]:
    """Return MixTailor's pool without one of its families (MixTailor, Figure 5)."""
    from flwr_robust.rules.mixtailor import default_pool

    pool = default_pool(f)
    families = list(dict.fromkeys(rule.name for rule in pool))
    if family not in families:
        raise ValueError(unknown("MixTailor's pool has no family", families, family))
    return [rule for rule in pool if rule.name != family]


def attack_problem(config: RunConfig) -> str | None:
    """Say what is wrong with the attack, or return None."""
    try:
        build_attack(config)
        seen_share(config)
    except ValueError as error:
        return f"attack={config.attack!r} attack-args={config.attack_args!r}: {error}"
    return None


def defense_problem(config: RunConfig) -> str | None:
    """Say what is wrong with the defence, or return None."""
    try:
        build_rule(config)
    except ValueError as error:
        return f"defense={config.defense!r} defense-args={config.defense_args!r}: {error}"
    return None
