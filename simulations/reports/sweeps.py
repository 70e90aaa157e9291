"""A sweep's folder, read back: its experiment file and its cells, also of one that is unfinished or still running."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr_robust.record.fates import ReportError
from simulations.experiments.experiment import Choice, Experiment, ExperimentError
from simulations.experiments.file import read_experiment
from simulations.experiments.sections import Label
from simulations.reports.cells import Cell, Labels, read_cell
from simulations.sweep.folder import CELLS, EXPERIMENT
from simulations.validation import listed

SEED = "seed"

Key = frozenset[tuple[str, Label]]


@dataclass(frozen=True)
class Sweep:
    """What a sweep's folder holds.

    Attributes
    ----------
    name : str
        The folder's.
    full, experiment : Experiment
        The experiment as the paper has it, and the version that ran.
    cells, failed : tuple of Cell
        Those that finished and those that did not; the last try of each.
    unreadable : int
        Lines that are no cells, as a sweep leaves them that was killed while it wrote.
    outdated : int
        Cells that the experiment file does not ask for (any more), which the report leaves out.
    """

    name: str
    full: Experiment
    experiment: Experiment
    cells: tuple[Cell, ...]
    failed: tuple[Cell, ...]
    unreadable: int = 0
    outdated: int = 0
    _found: dict[Key, list[Cell]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def lite(self) -> bool:
        """Whether it is the small version."""
        return self.experiment.is_lite

    @cached_property
    def axes(self) -> dict[str, tuple[Label, ...]]:
        """The labels of each axis but the seeds."""
        return {axis: labels for axis, labels in labels_of(self.experiment).items() if axis != SEED}

    @cached_property
    def seeds(self) -> tuple[Label, ...]:
        """The seeds of which at least one cell finished."""
        return tuple(sorted({cell.seed for cell in self.cells}, key=lambda seed: (isinstance(seed, str), seed)))

    @cached_property
    def planned(self) -> list[dict[str, Label]]:
        """The labels of all cells that the experiment file asks for."""
        combinations = self.experiment.combinations()
        return [{axis: choice.label for axis, choice in cell.items()} for cell in combinations]

    @cached_property
    def missing(self) -> list[dict[str, Label]]:
        """The labels of cells that were neither finished nor failed."""
        ran = (*self.cells, *self.failed)
        seen = {frozenset(cell.labels.items()) for cell in ran} | {key_of(cell.labels) for cell in ran}
        return [labels for labels in self.planned if frozenset(labels.items()) not in seen]

    @cached_property
    def _planned_seeds(self) -> dict[Key, list[Label | None]]:
        """The seeds that the experiment file asks for, by the labels of the other axes."""
        seeds: dict[Key, list[Label | None]] = defaultdict(list)
        for labels in self.planned:
            seeds[key_of(labels)].append(labels.get(SEED))
        return seeds

    @cached_property
    def _shown(self) -> dict[Key, list[Cell]]:
        """The finished cells by their labels, seeds apart; baselines also beside attacks that exclude them.

        A cell without malicious nodes is the same run under any attack, so that files ask for it under one attack
        alone. It stands beside the cells of the other attacks as well, wherever the file asks for such cells.
        """
        shown: dict[Key, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            shown[key_of(cell.labels)].append(cell)
        attacks = [axis for axis, choices in self.experiment.axes.items() if all(map(_is_attack, choices))]
        for place, cells in list(shown.items()):
            for axis in attacks if all(cell.is_baseline for cell in cells) else ():
                for label in self.axes[axis]:
                    copy = {**dict(place), axis: label}
                    if frozenset(copy.items()) not in self._planned_seeds and self._has_neighbour(copy, axis):
                        shown[frozenset(copy.items())] = [replace(cell, labels=copy) for cell in cells]
        return shown

    def _has_neighbour(self, labels: Labels, fixed: str) -> bool:
        """Whether the file asks for a cell that differs in one label alone, which is not the fixed axis's."""
        return any(
            frozenset({**labels, axis: other}.items()) in self._planned_seeds
            for axis in labels.keys() - {fixed}
            for other in self.axes[axis]
        )

    @cached_property
    def _places(self) -> set[Key]:
        """The labels of cells that were asked for or ran, seeds apart."""
        return {*self._planned_seeds, *self._shown, *(key_of(cell.labels) for cell in self.failed)}

    @cached_property
    def _only(self) -> dict[str, Label]:
        """Axes that have a single label."""
        return {axis: labels[0] for axis, labels in self.axes.items() if len(labels) == 1}

    def has(self, labels: Labels) -> bool:
        """Tell whether any cell with these labels was asked for or ran."""
        wanted = frozenset((self._only | dict(labels)).items())
        return wanted in self._places or any(wanted <= place for place in self._places)

    def at(self, labels: Labels) -> list[Cell]:
        """Return the finished cells with these labels."""
        wanted = frozenset((self._only | dict(labels)).items())
        if wanted not in self._found:
            exact = [self._shown[wanted]] if wanted in self._shown else None
            groups = exact or [cells for place, cells in self._shown.items() if wanted <= place]
            self._found[wanted] = [cell for cells in groups for cell in cells]
        return self._found[wanted]

    def is_attacked(self, labels: Labels) -> bool:
        """Tell whether any cell with these labels is attacked; of places without finished cells nothing is known."""
        cells = self.at(labels)
        return not cells or any(cell.attacked for cell in cells)

    def expected(self, labels: Labels) -> int:
        """Return how many cells with these labels there would be if none failed, for the seeds that ran."""
        wanted = frozenset((self._only | dict(labels)).items())
        asked = [seed for place, seeds in self._planned_seeds.items() if wanted <= place for seed in seeds]
        return max(sum(seed in (*self.seeds, None) for seed in asked), len(self.at(labels)))

    def limited(self, where: Mapping[str, Any]) -> Sweep:
        """Return the sweep with the labels alone that are wanted (lists of them, or single ones, by axis)."""
        if not where:
            return self
        axes = {
            axis: tuple(choice for choice in choices if axis not in where or choice.label in listed(where[axis]))
            for axis, choices in self.experiment.axes.items()
        }
        cells, failed = (
            tuple(cell for cell in group if matches(cell.labels, where)) for group in (self.cells, self.failed)
        )
        return replace(self, experiment=replace(self.experiment, axes=axes), cells=cells, failed=failed)


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder.

    Raises
    ------
    ReportError
        If a file cannot be read, the experiment file has mistakes, or no cell is in the folder.
    """
    try:
        raw = tomllib.loads((folder / EXPERIMENT).read_text(encoding="utf-8"))
        lines = (folder / CELLS).read_text(encoding="utf-8", errors="replace").splitlines()
        full = read_experiment(raw, folder / EXPERIMENT)
    except ExperimentError as error:
        raise ReportError(f"{folder} cannot be reported: {error}") from error
    except (OSError, ValueError) as error:
        raise ReportError(f"{folder} cannot be read: {error}.") from error
    found = [read_cell(line) for line in lines if line.strip()]
    cells = [cell for cell in found if cell is not None]
    if not cells:
        raise ReportError(f"{folder / CELLS} holds no cell yet; wait until flwr-robust sweep has finished one.")
    experiment = full.lite if cells[-1].lite and full.lite is not None else full
    asked = [cell for cell in cells if cell.lite == experiment.is_lite and _asked_for(cell, experiment)]
    if not asked:
        raise ReportError(f"{folder / CELLS} holds no cell that {EXPERIMENT} beside it asks for; sweep once more.")
    last = {frozenset(cell.labels.items()): cell for cell in asked}.values()
    return Sweep(
        name=folder.resolve().name,
        full=full,
        experiment=experiment,
        cells=tuple(cell for cell in last if cell.done),
        failed=tuple(cell for cell in last if not cell.done),
        unreadable=len(found) - len(cells),
        outdated=len(cells) - len(asked),
    )


def labels_of(experiment: Experiment) -> dict[str, tuple[Label, ...]]:
    """Return the labels of each axis."""
    return {axis: tuple(choice.label for choice in choices) for axis, choices in experiment.axes.items()}


def matches(labels: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether labels are all those that are wanted; a list stands for any of its labels."""
    return all(axis in labels and labels[axis] in listed(value) for axis, value in wanted.items())


def key_of(labels: Labels) -> Key:
    """Return the labels of all axes but the seeds, over which a report takes the mean."""
    return frozenset((axis, label) for axis, label in labels.items() if axis != SEED)


def _asked_for(cell: Cell, experiment: Experiment) -> bool:
    """Whether the labels, seeds apart, are those of the grid."""
    axes = {axis: labels for axis, labels in labels_of(experiment).items() if axis != SEED}
    labels = dict(key_of(cell.labels))
    return labels.keys() == axes.keys() and all(label in axes[axis] for axis, label in labels.items())


def _is_attack(choice: Choice) -> bool:
    """Whether a label stands for an attack, or for none, and for nothing else."""
    return all(key.startswith("attack") for key in choice.parameters)
