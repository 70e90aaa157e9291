"""What an audit does: each attack on each defence, and each defence unattacked; checked before anything starts."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clients import attacks
from clients.attacks import Attack, Backdoor, LabelPoison
from clients.attacks.faults import Malformed, Silent
from flwr_robust import rules
from flwr_robust.rules import Rule
from flwr_robust.strategies.side_inputs import require_root
from simulations.audit.project import AuditError, Project, read_project, with_run_config
from simulations.config.components import make_rule

NONE = "none"


@dataclass(frozen=True)
class Component:
    """An attack or a defence: its name and its arguments, as ``name:key=value key=value``."""

    name: str
    arguments: str = ""

    def __str__(self) -> str:
        """Return what was given."""
        return f"{self.name}:{self.arguments}" if self.arguments else self.name


@dataclass(frozen=True)
class Pair:
    """A run of the app: under an attack or none, with a defence or none."""

    attack: str
    defense: str
    key: str
    """What is the same for the same run of the same project alone."""


@dataclass(frozen=True)
class Options:
    """What the command was given."""

    attacks: str
    defenses: str
    malicious: int
    nodes: int
    rounds: int | None = None
    metric: str | None = None
    seed: int = 1
    run_config: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A checked audit."""

    project: Project
    """What is audited."""
    options: Options
    """As given."""
    config: dict[str, Any]
    """The app's run-config."""
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    """Those that are run; "none" is among the defences if asked for."""
    pairs: tuple[Pair, ...] = field(repr=False)
    """Runs in order: the unattacked one of a defence first."""
    left_out: tuple[str, ...] = ()
    """Sentences on what cannot be run."""

    @property
    def malicious(self) -> list[int]:
        """The partitions of the malicious nodes."""
        return sorted(random.Random(self.options.seed).sample(range(self.options.nodes), self.options.malicious))  # noqa: S311


def make_plan(path: Path, options: Options) -> Plan:
    """Check everything that can be checked without running the app.

    Raises
    ------
    AuditError
        With one sentence for each mistake.
    """
    _require_numbers(options)
    project = read_project(path)
    config = with_run_config(project, list(options.run_config), options.rounds)
    mistakes: list[str] = []
    left_out: list[str] = []
    chosen_attacks = list(_checked(options.attacks, "--attacks", options, mistakes))
    chosen_defenses = list(_checked(options.defenses, "--defenses", options, mistakes))
    if mistakes:
        raise AuditError("\n".join(mistakes))
    poisonable = project.poisonable
    runnable = []
    for attack in chosen_attacks:
        if poisons(attack) and not poisonable:
            left_out.append(
                f"{attack} is left out: it poisons training data, which needs one line in the app where it reads its "
                "labels, labels = poisoned_labels(labels), with from flwr_robust.clients import poisoned_labels."
            )
        elif attack != NONE:
            runnable.append(attack)
    if not runnable:
        raise AuditError(
            "\n".join([*left_out, "no attack is left; give others with --attacks, such as sign-flip,alie."])
        )
    pairs = [
        Pair(attack, defense, _key(project, options, config, attack, defense))
        for defense in chosen_defenses
        for attack in (NONE, *runnable)
    ]
    return Plan(project, options, config, tuple(runnable), tuple(chosen_defenses), tuple(pairs), tuple(left_out))


def _require_numbers(options: Options) -> None:
    if options.nodes < 2:
        raise AuditError(f"--nodes {options.nodes} is too few; give at least 2.")
    if not 0 < options.malicious < options.nodes:
        raise AuditError(
            f"--malicious {options.malicious} of --nodes {options.nodes} makes no sense; give 1 to {options.nodes - 1}."
        )
    if options.rounds is not None and options.rounds < 1:
        raise AuditError(f"--rounds {options.rounds} is too few; give at least 1, or leave it out for the app's own.")


def split(text: str) -> list[Component]:
    """Read ``sign-flip,alie:tau=1.5`` into components; commas in brackets do not separate."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    found = [part.strip().partition(":") for part in parts if part.strip()]
    return [Component(name.strip().lower(), arguments.strip()) for name, _, arguments in found]


def _checked(text: str, option: str, options: Options, mistakes: list[str]) -> Iterator[str]:
    """Yield what can be built, once each; take mistakes down."""
    components = dict.fromkeys(split(text))
    if not components:
        mistakes.append(f"{option} is empty; give names of 'flwr-robust list', with commas between.")
    for component in components:
        try:
            if option == "--attacks":
                _require_attack(component, options)
            else:
                _require_defense(component, options)
        except ValueError as error:
            mistakes.append(f"{option} {component}: {error}")
        else:
            yield str(component)


def _require_attack(component: Component, options: Options) -> None:
    if component.name == NONE:
        return
    name = attacks.ALIASES.get(component.name, component.name)
    kind = attacks.REGISTRY.get(name)
    if kind is not None and issubclass(kind, Backdoor):
        raise ValueError(
            "a backdoor, which no metric of the app's shows; `flwr-robust demo --backdoor` and docs/choose.md say more."
        )
    if kind is not None and issubclass(kind, LabelPoison):
        given = rules.parse_args(component.arguments)
        attacks.from_spec(name, {"num_classes": 2, **given} if name == "label-flip" else given)
        return
    made = make_attack(str(component), options.seed)
    if not made.makes_updates and not isinstance(made, Malformed | Silent):
        raise ValueError("the delivery of a backdoor, and no attack by itself; give another one.")


def _require_defense(component: Component, options: Options) -> None:
    if component.name == NONE:
        return
    rule = make_defense(str(component), options.malicious, options.seed)
    require_root(rule, None, "the audit")
    if not rule.accepts(options.nodes):
        raise ValueError(
            f"{rule!r} cannot tolerate {options.malicious} of {options.nodes} nodes; give more --nodes or fewer "
            "--malicious."
        )


def poisons(attack: str) -> bool:
    """Whether an attack happens in the malicious nodes' training data."""
    (component,) = split(attack)
    kind = attacks.REGISTRY.get(attacks.ALIASES.get(component.name, component.name))
    return kind is not None and issubclass(kind, LabelPoison)


def make_attack(text: str, seed: int) -> Attack:
    """Make an attack; one that has a factor tau searches for the most harmful one unless it is given.

    Raises
    ------
    ValueError
        If the attack or one of its arguments is unknown.
    """
    (component,) = split(text)
    given = dict(rules.parse_args(component.arguments))
    kind = attacks.REGISTRY.get(attacks.ALIASES.get(component.name, component.name))
    parameters = inspect.signature(kind).parameters if kind is not None else {}
    for key, value in (("seed", seed), ("tau", "optimal")):
        if key in parameters:
            given.setdefault(key, value)
    return attacks.from_spec(component.name, given)


def make_defense(text: str, malicious: int, seed: int) -> Rule:
    """Make a rule or chain.

    Raises
    ------
    ValueError
        If a rule or one of its arguments is unknown.
    """
    (component,) = split(text)
    return make_rule(component.name, component.arguments, f=malicious, seed=seed)


def _key(project: Project, options: Options, config: dict[str, Any], attack: str, defense: str) -> str:
    given = asdict(options)
    for other in ("attacks", "defenses", "metric", "run_config"):
        del given[other]
    given |= {"attack": attack, "defense": defense, "config": config, "code": project.fingerprint()}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def waiting(pairs: Sequence[Pair], done: Iterable[str]) -> list[Pair]:
    """Return the pairs that are not done yet."""
    over = set(done)
    return [pair for pair in pairs if pair.key not in over]
