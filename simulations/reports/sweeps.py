"""A sweep's folder, read back: its experiment file and its cells, also of one that is unfinished or still running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from flwr_robust.record.fates import ReportError
from simulations.experiments.experiment import Choice, Experiment, ExperimentError, load_experiment
from simulations.experiments.sections import Label
from simulations.reports.cells import Cell, Labels, read_cell
from simulations.sweep.folder import CELLS, EXPERIMENT

SEED, CELL = "seed", "cell"


@dataclass(frozen=True)
class Sweep:
    """What a sweep's folder holds."""

    name: str
    full: Experiment
    experiment: Experiment
    """The experiment as the paper has it, and the version that ran."""
    rows: pd.DataFrame
    """A row for each cell that the experiment file plans or that ran, with a column for each axis of the grid, and
    the last try of the cell in the column ``cell``; None where it did not run."""
    unreadable: int = 0
    """Lines that are no cells, as a sweep leaves them that was killed while it wrote."""
    outdated: int = 0
    """Cells that the experiment file does not plan (any more), which the report leaves out."""
    _selected: dict[frozenset[tuple[str, Label]], pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @property
    def lite(self) -> bool:
        """Whether it is the small version."""
        return self.experiment.is_lite

    @cached_property
    def axes(self) -> dict[str, tuple[Label, ...]]:
        """The labels of each axis but the seeds."""
        return {
            axis: tuple(choice.label for choice in choices)
            for axis, choices in self.experiment.axes.items()
            if axis != SEED
        }

    @cached_property
    def ran(self) -> list[Cell]:
        """All cells that ran."""
        return [cell for cell in self.rows[CELL] if cell is not None]

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells that finished."""
        return [cell for cell in self.ran if cell.done]

    @cached_property
    def failed(self) -> list[Cell]:
        """The cells that failed."""
        return [cell for cell in self.ran if not cell.done]

    @cached_property
    def missing(self) -> list[dict[str, Label]]:
        """The labels of cells that neither finished nor failed."""
        return [labels for labels, cell in zip(self.labels, self.rows[CELL], strict=True) if cell is None]

    @cached_property
    def labels(self) -> list[dict[str, Label]]:
        """The labels of all cells, seeds included where they are an axis of the grid."""
        axes = list(self.experiment.axes)
        return [dict(zip(axes, row, strict=True)) for row in self.rows[axes].to_numpy()]

    @cached_property
    def seeds(self) -> tuple[Label, ...]:
        """The seeds of which at least one cell finished."""
        return tuple(sorted({cell.seed for cell in self.cells}, key=lambda seed: (isinstance(seed, str), seed)))

    @cached_property
    def _shown(self) -> pd.DataFrame:
        """The rows, and baselines beside attacks that exclude them as well.

        A cell without malicious nodes is the same run under any attack, so that files plan it under one attack
        alone. It stands beside the cells of the other attacks too, wherever the file plans such cells; but not one
        whose model was shown an attack's own trigger.
        """
        places = set(self._places(self.rows))
        baselines = self.rows[[cell is not None and cell.stands_beside_all for cell in self.rows[CELL]]]
        attacks = [axis for axis, choices in self.experiment.axes.items() if all(map(_is_attack, choices))]
        found = [self.rows]
        for axis, label in [(attack, label) for attack in attacks for label in self.axes[attack]]:
            copy = baselines.assign(**{axis: label})
            found.append(copy[[self._is_beside(place, axis, places) for place in self._places(copy)]])
        return pd.concat(found)

    def _places(self, rows: pd.DataFrame) -> list[tuple[Label, ...]]:
        return list(rows[list(self.axes)].itertuples(index=False, name=None))

    def _is_beside(self, place: tuple[Label, ...], fixed: str, places: set[tuple[Label, ...]]) -> bool:
        """Whether nothing ran at a place, but at one that differs in one label alone, which is not the fixed axis's."""
        others = (
            (*place[:number], label, *place[number + 1 :])
            for number, (axis, labels) in enumerate(self.axes.items())
            for label in labels
            if axis != fixed
        )
        return place not in places and any(other in places for other in others)

    def _select(self, labels: Labels) -> pd.DataFrame:
        """Return the rows with these labels."""
        key = frozenset(labels.items())
        if key not in self._selected:
            rows = self._shown
            for axis, label in labels.items():
                rows = rows[rows[axis] == label]
            self._selected[key] = rows
        return self._selected[key]

    def has(self, labels: Labels) -> bool:
        """Return whether any cell with these labels was planned or ran."""
        return not self._select(labels).empty

    def at(self, labels: Labels) -> list[Cell]:
        """Return the finished cells with these labels."""
        return [cell for cell in self._select(labels)[CELL] if cell is not None and cell.done]

    def is_attacked(self, labels: Labels) -> bool:
        """Return whether any cell with these labels is attacked; of places without finished cells nothing is known."""
        cells = self.at(labels)
        return not cells or any(cell.attacked for cell in cells)

    def expected(self, labels: Labels) -> int:
        """Return how many cells with these labels there would be if none failed, for the seeds that ran."""
        seeds = self._select(labels)[SEED]
        return int((seeds.isin(self.seeds) | seeds.isna()).sum())

    def limited(self, where: Mapping[str, Sequence[Label]]) -> Sweep:
        """Return the sweep with these labels alone, by axis."""
        axes = {
            axis: tuple(choice for choice in choices if axis not in where or choice.label in where[axis])
            for axis, choices in self.experiment.axes.items()
        }
        rows = self.rows
        for axis in where.keys() & axes.keys():
            rows = rows[rows[axis].isin(where[axis])]
        return replace(self, experiment=replace(self.experiment, axes=axes), rows=rows, _selected={})


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder.

    Raises
    ------
    ReportError
        If a file cannot be read, the experiment file has mistakes, or no cell is in the folder.
    """
    try:
        full = load_experiment(str(folder / EXPERIMENT))
        lines = (folder / CELLS).read_text(encoding="utf-8", errors="replace").splitlines()
    except (ExperimentError, OSError) as error:
        raise ReportError(f"{folder} cannot be reported: {error}") from error
    found = [read_cell(line) for line in lines if line.strip()]
    cells = [cell for cell in found if cell is not None]
    if not cells:
        raise ReportError(f"{folder / CELLS} holds no cell yet; wait until flwr-robust sweep has finished one.")
    experiment = full.lite if cells[-1].lite and full.lite is not None else full
    planned = [cell for cell in cells if cell.lite == experiment.is_lite and _is_planned(cell, experiment)]
    if not planned:
        raise ReportError(f"{folder / CELLS} holds no cell that {EXPERIMENT} beside it plans; sweep once more.")
    return Sweep(
        name=folder.resolve().name,
        full=full,
        experiment=experiment,
        rows=_rows(experiment, planned),
        unreadable=len(found) - len(cells),
        outdated=len(cells) - len(planned),
    )


def _rows(experiment: Experiment, cells: Sequence[Cell]) -> pd.DataFrame:
    """Put the cells that were planned and those that ran into rows; of several tries of a cell, the last counts."""
    axes = [axis for axis in experiment.axes if axis != SEED]
    ran: dict[tuple[Label | None, ...], Cell] = {
        (*(cell.labels[axis] for axis in axes), cell.seed): cell for cell in cells
    }
    places = dict.fromkeys(key[:-1] for key in ran)
    planned: list[tuple[Label | None, ...]] = []
    for choices in experiment.combinations():
        place = tuple(choices[axis].label for axis in axes)
        if SEED in choices or place not in places:  # without seeds in the file, any seed will do
            planned.append((*place, choices[SEED].label if SEED in choices else None))
    keys = list(dict.fromkeys([*planned, *ran]))
    rows = pd.DataFrame(keys, columns=[*axes, SEED], dtype=object)
    return rows.assign(**{CELL: pd.Series([ran.get(key) for key in keys], dtype=object)})


def _is_planned(cell: Cell, experiment: Experiment) -> bool:
    """Whether the labels, seeds apart, are those of the grid."""
    labels = {axis: label for axis, label in cell.labels.items() if axis != SEED}
    axes = {axis: choices for axis, choices in experiment.axes.items() if axis != SEED}
    return labels.keys() == axes.keys() and all(
        label in [choice.label for choice in axes[axis]] for axis, label in labels.items()
    )


def _is_attack(choice: Choice) -> bool:
    """Whether a label stands for an attack, or for none, and for nothing else."""
    return all(key.startswith("attack") for key in choice.parameters)
