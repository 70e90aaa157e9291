"""Experiments: the grid of runs behind a published table or figure, read from TOML and checked.

README.md beside the files describes their format.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from simulations.experiments.sections import Label, LabelField, Labels, ReportSections
from simulations.validation import Checked, sentences
from simulations.wording import unknown

FOLDER = Path(__file__).parent
NO_PARAMETERS = ("experiment", "out-dir")  # what only a single run's configuration may set

HEADINGS = {key: f"[{key}]" for key in ("federation", "parameters", "grid", "lite", "table")}
HEADINGS |= {key: f"[[{key}]]" for key in ("exclude", "figure", "paper-numbers")}


class ExperimentError(ValueError):
    """An experiment that cannot be used; its text says what is wrong, one sentence a mistake."""


@dataclass(frozen=True)
class Choice:
    """A value of an axis: what it is called, and the run-config keys that it sets."""

    label: Label
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One experiment file, in full or in its lite version."""

    name: str
    """The file's name without ``.toml``."""
    path: Path
    title: str = ""
    source: str = ""
    paper: str = ""
    claim: str = ""
    """What it shows, where it was published, and what is claimed there."""
    num_supernodes: int | None = None
    """The number of nodes that the experiment is defined for."""
    parameters: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, tuple[Choice, ...]] = field(default_factory=dict)
    exclude: tuple[dict[str, tuple[Label, ...]], ...] = ()
    """Labels by axis; cells that have one of each are left out."""
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


# ---------------------------------------------------------------- what a file holds


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    wrong = [f"{key} is no parameter of an experiment; leave it out." for key in NO_PARAMETERS if key in given]
    if wrong:
        raise ValueError("\n".join(wrong))
    return given


def _spelled_out(grid: Any) -> Any:
    """Write each value of a run-config key as the table that gives the key this value."""

    def table(axis: str, value: Any) -> Any:
        return value if isinstance(value, dict) else {"label": value, axis: value}

    if not isinstance(grid, dict):
        return grid
    return {
        axis: tuple(table(axis, value) for value in values) if isinstance(values, list) else values
        for axis, values in grid.items()
    }


class GridValue(Checked):
    """A value of an axis: a label, and run-config keys."""

    model_config = ConfigDict(extra="allow")

    label: LabelField

    @property
    def parameters(self) -> dict[str, Any]:
        """The run-config keys."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _has_parameters(self) -> GridValue:
        _parameters(self.parameters)
        return self


def _labels_apart(values: tuple[GridValue, ...]) -> tuple[GridValue, ...]:
    labels = [value.label for value in values]
    twice = [label for number, label in enumerate(labels) if label in labels[:number]]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice; give each value a label of its own.")
    return values


class Federation(Checked):
    """``[federation]``."""

    num_supernodes: Annotated[int, Field(ge=1)] | None = None


Parameters = Annotated[dict[str, Any], AfterValidator(_parameters)]
Exclude = list[Annotated[Labels, Field(min_length=1)]]
GridAxis = Annotated[tuple[GridValue, ...], AfterValidator(_labels_apart)]


class Lite(Checked):
    """``[lite]``: what takes the place of the full version's parts."""

    claim: str | None = None
    federation: Federation = Federation()
    parameters: Parameters = Field(default_factory=dict)
    grid: Annotated[dict[str, GridAxis], BeforeValidator(_spelled_out)] = Field(default_factory=dict)
    exclude: Exclude | None = None


class ExperimentFile(ReportSections):
    """A whole file."""

    title: str = ""
    source: str = ""
    paper: str = ""
    claim: str = ""
    federation: Federation = Federation()
    parameters: Parameters
    grid: Annotated[dict[str, Annotated[GridAxis, Field(min_length=1)]], BeforeValidator(_spelled_out)] = Field(
        default_factory=dict
    )
    exclude: Exclude = Field(default_factory=list)
    lite: Lite | None = None


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
    if name.endswith(".toml"):
        path = Path(name).expanduser()
    elif name in experiment_names():
        path = FOLDER / f"{name}.toml"
    else:
        allowed = [*experiment_names(), "or the path of a .toml file"]
        raise ExperimentError(unknown(f"the experiment {name!r}", name, allowed))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} cannot be read: {error}; give the path of an experiment file.") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{path} is no TOML: {error}; correct it.") from error
    return read_experiment(raw, path)


def read_experiment(raw: Mapping[str, Any], path: Path) -> Experiment:
    """Read a parsed file.

    Whether its run-config keys and their values can be run is checked in `simulations.sweep.cells`.

    Raises
    ------
    ExperimentError
        With one sentence for each mistake.
    """
    try:
        file = ExperimentFile.model_validate(raw, context=_labels_of(raw))
    except ValidationError as error:
        raise ExperimentError("\n".join(sentences(error, ExperimentFile, path.name, HEADINGS))) from error
    full = Experiment(
        name=path.stem,
        path=path,
        title=file.title,
        source=file.source,
        paper=file.paper,
        claim=file.claim,
        num_supernodes=file.federation.num_supernodes,
        parameters=file.parameters,
        axes=_axes(file.grid),
        exclude=tuple(file.exclude),
        sections=file,
    )
    return full if file.lite is None else replace(full, lite=_with(full, file.lite))


def _with(full: Experiment, lite: Lite) -> Experiment:
    """Put the parts of [lite] in the places of the full version's."""
    axes = full.axes | _axes(lite.grid)
    return replace(
        full,
        claim=full.claim if lite.claim is None else lite.claim,
        num_supernodes=lite.federation.num_supernodes or full.num_supernodes,
        parameters=full.parameters | lite.parameters,
        axes={axis: choices for axis, choices in axes.items() if choices},
        exclude=full.exclude if lite.exclude is None else tuple(lite.exclude),
        is_lite=True,
    )


def _axes(grid: Mapping[str, Iterable[GridValue]]) -> dict[str, tuple[Choice, ...]]:
    return {axis: tuple(Choice(value.label, value.parameters) for value in values) for axis, values in grid.items()}


def _labels_of(raw: Mapping[str, Any]) -> dict[str, list[Label]]:
    """Return the labels of each axis of the full and of the small grid, as far as they can be read."""
    labels: dict[str, list[Label]] = {}
    lite = raw.get("lite")
    for grid in (raw.get("grid"), lite.get("grid") if isinstance(lite, dict) else None):
        for axis, values in grid.items() if isinstance(grid, dict) else ():
            given = values if isinstance(values, list) else []
            labels.setdefault(axis, []).extend(
                value.get("label", "") if isinstance(value, dict) else value for value in given
            )
    return labels
