"""An experiment: the grid of runs behind a published table or figure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simulations.experiments.sections import Label, ReportSections


class ExperimentError(ValueError):
    """An experiment that cannot be used; its text says what is wrong, one sentence a mistake."""


@dataclass(frozen=True)
class Choice:
    """A value of an axis: what it is called, and the run-config keys that it sets."""

    label: Label
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One experiment file, in full or in its lite version.

    Attributes
    ----------
    name : str
        The file's name without ``.toml``.
    path : Path
        The file.
    title, source, paper, claim : str
        What it shows, where it was published, and what is claimed there.
    num_supernodes : int or None
        The number of nodes that the experiment is defined for.
    parameters : dict
        Run-config keys that replace the defaults.
    axes : dict of str to tuple of Choice
        The grid.
    exclude : tuple of dict
        Labels by axis; cells that have one of each are left out.
    sections : ReportSections
        What its report shows.
    lite : Experiment or None
        The small version, if there is one.
    is_lite : bool
        Whether this is a small version.
    """

    name: str
    path: Path
    title: str = ""
    source: str = ""
    paper: str = ""
    claim: str = ""
    num_supernodes: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, tuple[Choice, ...]] = field(default_factory=dict)
    exclude: tuple[dict[str, tuple[Label, ...]], ...] = ()
    sections: ReportSections = field(default_factory=ReportSections)
    lite: Experiment | None = None
    is_lite: bool = False

    def combinations(self) -> Iterator[dict[str, Choice]]:
        """Yield the choices of each cell by axis, the excluded ones left out."""
        for choices in itertools.product(*self.axes.values()):
            cell = dict(zip(self.axes, choices, strict=True))
            if not any(_matches(cell, rule) for rule in self.exclude):
                yield cell

    @property
    def num_cells(self) -> int:
        """The number of cells."""
        return sum(1 for _ in self.combinations())

    def with_seeds(self, seeds: Iterable[int]) -> Experiment:
        """Return the same experiment with these seeds, of which the first is done first."""
        others = {axis: choices for axis, choices in self.axes.items() if axis != "seed"}
        return replace(self, axes={"seed": tuple(Choice(seed, {"seed": seed}) for seed in seeds), **others})


def _matches(cell: Mapping[str, Choice], rule: Mapping[str, tuple[Label, ...]]) -> bool:
    return all(axis in cell and cell[axis].label in labels for axis, labels in rule.items())
