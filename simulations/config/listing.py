"""Tables of what there is, for ``flwr-robust list``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.table import Table

from clients.attacks import ALIASES, REGISTRY
from clients.attacks import registry as attack_registry
from flwr_robust import rules as library
from flwr_robust.rules import PreAggregation
from flwr_robust.rules import registry as rule_registry
from flwr_robust.rules.plugins import plugins
from simulations.config.catalog import DATASETS, FAULTS, MODELS, PARTITIONS, shape_text
from simulations.experiments.experiment import experiment_names, load_experiment

# The NNM paper's numbers of nodes, for which proven coefficients are shown.
EXAMPLE_N, EXAMPLE_F = 17, 4

KNOWLEDGE = {
    "own": "its own update",
    "honest": "the honest updates",
    "rule": "the honest updates and the rule",
    "data": "its own data",
}


def rules() -> Iterator[tuple[str, ...]]:
    """Yield rules and pre-aggregations with their parameters and least numbers of nodes; plugins with their package."""
    for name, stage in library.REGISTRY.items():
        kind = "pre-aggregation" if issubclass(stage, PreAggregation) else "rule"
        yield name, kind, _parameters(stage), _requirement(stage), stage.breakdown, _kappa(stage), stage.source
    for name, package in plugins(rule_registry.GROUP).items():
        yield name, "plugin", "", "", "", "", package


def attacks() -> Iterator[tuple[str, ...]]:
    """Yield attacks with their parameters and what they must know."""
    for name, attack in REGISTRY.items():
        others = [alias for alias, target in ALIASES.items() if target == name]
        shown = f"{name} ({', '.join(others)})" if others else name
        effect = (inspect.getdoc(attack) or "").partition("\n")[0].rstrip(".")
        yield shown, _parameters(attack), KNOWLEDGE[attack.knows], effect
    for name, package in plugins(attack_registry.GROUP).items():
        yield name, "", "", f"A plugin of {package}"
    yield FAULTS, "", "nothing", "Simulations: non-finite, wrong-shape, garbage, silent nodes side by side, as mods"


def datasets() -> Iterator[tuple[str, ...]]:
    """Yield data sets with their shapes and origins."""
    for spec in DATASETS.values():
        origin = spec.hub_name or "comes with scikit-learn"
        yield spec.name, shape_text(spec.shape), str(spec.num_classes), spec.default_model, origin


def models() -> Iterator[tuple[str, ...]]:
    """Yield models with the samples that they take."""
    for spec in MODELS.values():
        yield spec.name, " or ".join(map(shape_text, spec.shapes)) or "any images", spec.layers, spec.source


def experiments() -> Iterator[tuple[str, ...]]:
    """Yield the experiments that come with the project, with their numbers of cells."""
    for name in experiment_names():
        one = load_experiment(name)
        lite = str(one.lite.num_cells) if one.lite else ""
        yield name, one.title, str(one.num_supernodes or "any"), str(one.num_cells), lite, one.source


# What each list is called, its headings, and its rows.
LISTS: dict[str, tuple[str, str, Callable[[], Iterable[tuple[str, ...]]]]] = {
    "rules": (
        "Rules, chained with + as in arc+nnm+trimmed-mean",
        "Name Kind Parameters Needs Breakdown Kappa* Source",
        rules,
    ),
    "attacks": (
        "Attacks (a simulation searches the best tau unless attack-args gives one)",
        "Name Parameters Knows Effect",
        attacks,
    ),
    "datasets": ("Data sets", "Name Samples Classes Model Origin", datasets),
    "partitions": ("Partitions", "Name Meaning", PARTITIONS.items),
    "models": ("Models", "Name Samples Layers Source", models),
    "experiments": (
        "Experiments, run by flwr-robust sweep NAME [--lite]",
        "Name Title Nodes Cells Lite Source",
        experiments,
    ),
}


def make_list(kind: str) -> Table:
    """Return one of the lists."""
    title, headings, rows = LISTS[kind]
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings.split()):
        table.add_column(heading, no_wrap=number == 0)
    for row in rows():
        table.add_row(*row)
    if "Kappa*" in headings:
        table.caption = f"* proven robustness coefficient at n = {EXAMPLE_N}, f = {EXAMPLE_F}"
    return table


def _kappa(stage: Any) -> str:
    """Return the proven coefficient for the example's numbers of nodes; how a pre-aggregation changes a rule's."""
    if issubclass(stage, library.NNM):
        return f"{8 * EXAMPLE_F / (EXAMPLE_N - EXAMPLE_F):.3g} (rule's + 1)"
    if issubclass(stage, library.ARC):
        return f"rule's + {2 * EXAMPLE_F / (EXAMPLE_N - 2 * EXAMPLE_F):.3g}"
    if not issubclass(stage, library.Rule):
        return ""
    rule = stage(f=EXAMPLE_F) if stage.takes_f else stage()
    value = library.kappa(rule, EXAMPLE_N, EXAMPLE_F)
    return "" if value is None else f"{value:.3g}"


def _requirement(stage: Any) -> str:
    """Return what a stage needs of n and f; where that depends on its parameters, with their defaults."""
    requirement = stage.requirement
    return requirement if isinstance(requirement, str) else str(stage().requirement)


def _parameters(component: Callable[..., Any]) -> str:
    """Write a constructor's parameters as one would give them."""
    written = []
    for name, parameter in inspect.signature(component).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if default is parameter.empty or default is None:
            written.append(name)
        elif isinstance(default, tuple) and len(default) > 4:
            written.append(f"{name}={default[0]:g}..{default[-1]:g}")
        else:
            written.append(f"{name}={default}")
    return ", ".join(written)
