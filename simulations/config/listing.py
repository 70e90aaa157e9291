"""Tables of what there is, for ``flwr-robust list``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table

from simulations.config import catalog
from simulations.experiments.file import experiment_names, load_experiment

# The NNM paper's numbers of nodes, for which proven coefficients are shown.
EXAMPLE_N, EXAMPLE_F = 17, 4

KNOWLEDGE = {
    "own": "its own update",
    "honest": "the honest updates",
    "rule": "the honest updates and the rule",
    "data": "its own data",
}


def rules() -> Table:
    """List rules and pre-aggregations with their parameters and least numbers of nodes."""
    from flwr_robust import rules as library

    def rows() -> Iterable[tuple[str, ...]]:
        for name, stage in library.REGISTRY.items():
            kind = "pre-aggregation" if issubclass(stage, library.PreAggregation) else "rule"
            needs = _requirement(stage)
            yield name, kind, _parameters(stage), needs, stage.breakdown, _kappa(stage), stage.source

    headings = "Name Kind Parameters Needs Breakdown Kappa* Source"
    table = _table("Rules, chained with + as in arc+nnm+trimmed-mean", headings, rows())
    table.caption = f"* proven robustness coefficient at n = {EXAMPLE_N}, f = {EXAMPLE_F}"
    return table


def attacks() -> Table:
    """List attacks with their parameters and what they must know."""
    from clients import attacks as library

    def rows() -> Iterable[tuple[str, ...]]:
        for name, attack in library.REGISTRY.items():
            others = [alias for alias, target in library.ALIASES.items() if target == name]
            shown = f"{name} ({', '.join(others)})" if others else name
            yield shown, _parameters(attack), KNOWLEDGE[attack.knows], _first_sentence(attack)
        yield (
            catalog.FAULTS,
            "",
            "nothing",
            "Simulations: non-finite, wrong-shape, garbage, silent nodes side by side, as mods",
        )

    return _table(
        "Attacks (a simulation searches the best tau unless attack-args gives one)",
        "Name Parameters Knows Effect",
        rows(),
    )


def datasets() -> Table:
    """List data sets with their shapes and origins."""

    def rows() -> Iterable[tuple[str, ...]]:
        for spec in catalog.DATASETS.values():
            origin = spec.hub_name or "comes with scikit-learn"
            yield spec.name, catalog.shape_text(spec.shape), str(spec.num_classes), spec.default_model, origin

    return _table("Data sets", "Name Samples Classes Model Origin", rows())


def partitions() -> Table:
    """List the ways of sharing out data."""
    return _table("Partitions", "Name Meaning", catalog.PARTITIONS.items())


def models() -> Table:
    """List models with the samples that they take."""

    def rows() -> Iterable[tuple[str, ...]]:
        for spec in catalog.MODELS.values():
            taken = " or ".join(map(catalog.shape_text, spec.shapes)) or "any images"
            yield spec.name, taken, spec.layers, spec.source

    return _table("Models", "Name Samples Layers Source", rows())


def experiments() -> Table:
    """List the experiments that come with the project, with their numbers of cells."""

    def rows() -> Iterable[tuple[str, ...]]:
        for name in experiment_names():
            experiment = load_experiment(name)
            nodes = str(experiment.num_supernodes or "any")
            lite = str(experiment.lite.num_cells) if experiment.lite else ""
            yield name, experiment.title, nodes, str(experiment.num_cells), lite, experiment.source

    return _table("Experiments, done by flwr-robust sweep NAME [--lite]", "Name Title Nodes Cells Lite Source", rows())


TABLES: dict[str, Callable[[], Table]] = {
    table.__name__: table for table in (rules, attacks, datasets, partitions, models, experiments)
}


def _table(title: str, headings: str, rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings.split()):
        table.add_column(heading, no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    return table


def _kappa(stage: Any) -> str:
    """Return the proven coefficient for the example's numbers of nodes; how a pre-aggregation changes a rule's."""
    from flwr_robust import rules as library

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


def _first_sentence(component: object) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0].rstrip(".")
