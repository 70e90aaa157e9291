"""Experiment files: the grid of runs behind a published table or figure, as TOML.

A file may look like this; `simulations.sweep.cells` makes runs of it, ``flwr-robust sweep`` does them::

    title = "What it shows"
    source = "Author et al., Title (2024), Table 1"
    paper = "NNM"                    # one of the five, or any other
    claim = "One sentence: what the table shows."

    [federation]
    num-supernodes = 17              # as many nodes as any cell needs; num-nodes of a cell may be less

    [parameters]                     # run-config keys
    dataset = "mnist"

    [grid]                           # an axis is a list; the cells are the product, the last axis changes fastest
    seed = [1, 2, 3]                 # values of the run-config key that gives the axis its name,
    attack = [                       # or tables of run-config keys with a label; the axis may then have any name;
                                     # of two axes that set a key the later one wins
        { label = "SF", attack = "sign-flip" },
        { label = "ALIE", attack = "alie", attack-args = "tau=optimal" },
    ]

    [[exclude]]                      # no cells with all of these labels; a list stands for any of its labels
    attack = "SF"
    seed = [2, 3]

    [lite]                           # what replaces the above in a small version of the experiment: claim,
    federation = { num-supernodes = 7 }      # federation,
    parameters = { dataset = "digits" }      # parameters one by one,
    grid = { seed = [1] }                    # axes one by one ([] removes one), and exclude as a whole

``[table]``, ``[[figure]]`` and ``[[paper-numbers]]`` say what its report shows: see `simulations.experiments.sections`.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simulations.wording import suggestion

FOLDER = Path(__file__).parent

Label = str | int | float | bool


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


def experiment_names() -> list[str]:
    """Names of the experiments that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_experiment(name: str) -> Experiment:
    """Read ``experiments/<name>.toml``, or the file itself where a path ending in ``.toml`` is given.

    Raises
    ------
    ExperimentError
        If there is no such file, or it is no experiment.
    """
    from simulations.experiments.file import read_experiment

    if name.endswith(".toml"):
        path = Path(name).expanduser()
    elif name in experiment_names():
        path = FOLDER / f"{name}.toml"
    else:
        raise ExperimentError(
            f"there is no experiment {name!r}{suggestion(name, experiment_names())}; "
            f"allowed: {', '.join(experiment_names())}, or the path of a .toml file."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} cannot be read: {error}; give the path of an experiment file.") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{path} is no TOML: {error}; correct it.") from error
    return read_experiment(raw, path)


def _matches(cell: Mapping[str, Choice], rule: Mapping[str, tuple[Label, ...]]) -> bool:
    return all(axis in cell and cell[axis].label in labels for axis, labels in rule.items())
