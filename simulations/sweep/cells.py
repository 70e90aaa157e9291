"""The cells of an experiment: one run for each combination of its grid, checked before any starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulations.config.run_config import ConfigurationError, RunConfig
from simulations.experiments.experiment import Choice, Experiment, ExperimentError, load_experiment
from simulations.experiments.sections import Label
from simulations.wording import unknown


@dataclass(frozen=True)
class Cell:
    """A run of an experiment."""

    labels: dict[str, Label]
    """What its values are called, by axis."""
    config: RunConfig
    num_nodes: int

    @property
    def fingerprint(self) -> str:
        """The run's identity; cells of different labels may be the same run."""
        return self.config.fingerprint(num_nodes=self.num_nodes)

    @property
    def name(self) -> str:
        """The labels in a line."""
        return describe(self.labels)


def describe(labels: Mapping[str, object]) -> str:
    """Write labels in a line."""
    return ", ".join(f"{axis} = {label}" for axis, label in labels.items()) or "the only cell"


def build_cells(experiment: Experiment, out_dir: Path) -> list[Cell]:
    """Make the cells of an experiment, whose runs leave their results in a folder.

    Raises
    ------
    ExperimentError
        If a cell cannot be run, or there is none.
    """
    place = f"{experiment.path.name}{' [lite]' if experiment.is_lite else ''}"
    if experiment.num_supernodes is None:
        raise ExperimentError(f"{place} has no number of nodes; add num-supernodes to [federation].")
    _require_valid_tables(experiment, place)
    cells: list[Cell] = []
    problems: dict[str, list[dict[str, Label]]] = {}
    for choices in experiment.combinations():
        labels = {axis: choice.label for axis, choice in choices.items()}
        try:
            config = RunConfig.from_run_config({**_merged(experiment, choices), "out-dir": str(out_dir)})
            cells.append(_cell(labels, config, experiment.num_supernodes))
        except ConfigurationError as error:
            for problem in str(error).splitlines():
                problems.setdefault(problem, []).append(labels)
    if problems:
        lines = [f"{place}: {problem}{_where(labels, experiment)}" for problem, labels in problems.items()]
        raise ExperimentError("\n".join(lines))
    if not cells:
        raise ExperimentError(f"{place} leaves no cell; exclude less.")
    return cells


@dataclass(frozen=True)
class Plan:
    """An experiment's cells and where they go."""

    experiment: Experiment
    folder: Path
    """Of all that the sweep writes."""
    cells: list[Cell] = field(repr=False)
    chosen: list[Cell] = field(repr=False)
    """Those that are to be done."""


def make_plan(
    experiment: str, *, lite: bool = False, out: Path = Path("results"), seeds: str = "", only: Iterable[str] = ()
) -> Plan:
    """Read the experiment and check every cell.

    Parameters
    ----------
    experiment : str
        A name or the path of a file.
    lite : bool
        Whether to do the small version.
    out : Path
        Gets the folder ``<experiment>`` or ``<experiment>-lite``.
    seeds : str
        Replace the experiment's (see `parse_seeds`); none leaves them.
    only : iterable of str
        ``axis=label`` words that cells must match.

    Raises
    ------
    ExperimentError
        With one sentence for each mistake.
    """
    full = load_experiment(experiment)
    version = full.lite if lite else full
    if version is None:
        raise ExperimentError(f"{full.path.name} has no [lite] section; leave --lite out, or add one.")
    if seeds:
        version = version.with_seeds(parse_seeds(seeds))
    folder = (out / f"{full.name}{'-lite' if lite else ''}").expanduser().absolute()
    cells = build_cells(version, folder / "runs")
    return Plan(version, folder, cells, select(cells, only))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds as in ``1-5``, ``1,3`` or ``1-3,7``.

    Raises
    ------
    ExperimentError
        If the text is of another form.
    """
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        several = range(int(found[1]), int(found[2] or found[1]) + 1) if found else ()
        if not several:
            raise ExperimentError(f"--seeds {text!r} must be numbers as in 1-5 or 1,3.")
        seeds += several
    return tuple(dict.fromkeys(seeds))


def select(cells: Sequence[Cell], only: Iterable[str]) -> list[Cell]:
    """Return the cells that ``axis=label`` words ask for; words with one axis are alternatives.

    Raises
    ------
    ExperimentError
        If a word is of another form, or no cell has such an axis or label.
    """
    labels: dict[str, dict[str, None]] = {}
    for cell in cells:
        for axis, label in cell.labels.items():
            labels.setdefault(axis, {})[str(label)] = None
    wanted: dict[str, set[str]] = {}
    for word in only:
        axis, equals, label = (part.strip() for part in word.partition("="))
        if not equals:
            raise ExperimentError(f"--only {word!r} must have the form axis=label; axes: {', '.join(labels)}.")
        if axis not in labels:
            raise ExperimentError(unknown(f"--only {word!r}: the axis {axis!r}", axis, labels))
        if label not in labels[axis]:
            raise ExperimentError(unknown(f"--only {word!r}: the value {label!r} of {axis}", label, labels[axis]))
        wanted.setdefault(axis, set()).add(label)
    return [cell for cell in cells if all(str(cell.labels[axis]) in allowed for axis, allowed in wanted.items())]


def _require_valid_tables(experiment: Experiment, place: str) -> None:
    """Check each table by itself, so that a mistake is named once and where it is."""
    tables = {"[parameters]": experiment.parameters} | {
        f"[grid] {axis} = {choice.label!r}": choice.parameters
        for axis, choices in experiment.axes.items()
        for choice in choices
    }
    problems = [f"{place} {name}: {text}" for name, table in tables.items() for text in RunConfig.valid_part(table)[1]]
    if problems:
        raise ExperimentError("\n".join(problems))


def _merged(experiment: Experiment, choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Put what the axes set in the places of the parameters; the last axis that sets a key wins.

    Arguments belong to the name beside them: an axis that names an attack or a defence leaves those of another
    one behind.
    """
    merged = dict(experiment.parameters)
    for key in ("attack", "defense"):
        if any(key in choice.parameters for choice in choices.values()):
            merged.pop(f"{key}-args", None)
    for choice in choices.values():
        merged.update(choice.parameters)
    return merged


def _cell(labels: dict[str, Label], config: RunConfig, num_supernodes: int) -> Cell:
    needed = config.num_nodes or config.least_nodes()
    if needed > num_supernodes:
        cause = f"num-malicious={config.num_malicious} and defense={config.defense!r}"
        raise ConfigurationError(
            f"num-supernodes={num_supernodes} is too few for "
            f"{f'num-nodes={needed}' if config.num_nodes else cause}: give at least {needed}."
        )
    return Cell(labels, config, config.participants(num_supernodes))


def _where(cells: Sequence[Mapping[str, Label]], experiment: Experiment) -> str:
    """Name the values that all cells with a mistake share and others need not have."""
    shared = {
        axis: cells[0][axis]
        for axis, choices in experiment.axes.items()
        if len(choices) > 1 and all(labels[axis] == cells[0][axis] for labels in cells)
    }
    return f" ({describe(shared)})" if shared else ""
