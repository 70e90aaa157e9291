"""What an experiment file says of its report: ``[table]``, ``[[figure]]`` and ``[[paper-numbers]]``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from simulations.experiments.metrics import TOTALS, Metric, by_round, total
from simulations.validation import Checked, Listed
from simulations.wording import unknown

CURVES, LINES, BARS, HEATMAP, SCATTER = "curves", "lines", "bars", "heatmap", "scatter"
COLUMNS, ROWS = "columns", "rows"

Label = str | int | float | bool
Item = TypeVar("Item")


class Over(StrEnum):
    """What a place shows that has no label on an axis; the values are the words of ``[[paper-numbers]]``."""

    WORST = "worst-case"
    MEAN = "average"

    @property
    def heading(self) -> str:
        """For readers."""
        return self.value.replace("-", " ").capitalize()


# ---------------------------------------------------------------- axes and labels; the grid is the validation's context


def label(value: Any) -> Label:
    """Check that a value may be a label."""
    if isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"{value!r} must be a text, a number, true or false.")


def _axis(name: Any, info: ValidationInfo) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} must be one axis.")
    return _among(f"the axis {name!r}", name, _grid(info))


def _compared(name: Any, info: ValidationInfo) -> str:
    return name if name in (COLUMNS, ROWS) else _axis(name, info)


def _some_label(value: Any, info: ValidationInfo) -> Label:
    labels = [known for of_axis in _grid(info).values() for known in of_axis]
    return _among(f"the label {value!r}", label(value), labels)


def _labels(where: dict[str, tuple[Label, ...]], info: ValidationInfo) -> dict[str, tuple[Label, ...]]:
    return _known(where, _grid(info))


def _labels_or_over(where: dict[str, Label], info: ValidationInfo) -> dict[str, Label]:
    return _known(where, {axis: [*labels, *Over] for axis, labels in _grid(info).items()})


def _grid(info: ValidationInfo) -> Mapping[str, list[Label]]:
    grid: Mapping[str, list[Label]] = info.context or {}
    return grid


def _known(where: dict[str, Any], grid: Mapping[str, list[Label]]) -> dict[str, Any]:
    wrong = [unknown(f"the axis {axis!r}", axis, grid) for axis in where if axis not in grid]
    for axis in where.keys() & grid.keys():
        given = where[axis] if isinstance(where[axis], tuple) else (where[axis],)
        allowed = dict.fromkeys(map(str, grid[axis]))
        wrong += [unknown(f"the label {one!r} of {axis}", one, allowed) for one in given if one not in grid[axis]]
    if wrong:
        raise ValueError("\n".join(wrong))
    return where


def _among(what: str, given: Item, allowed: Collection[object]) -> Item:
    if given not in allowed:
        raise ValueError(unknown(what, given, dict.fromkeys(map(str, allowed))))
    return given


Axis = Annotated[str, BeforeValidator(_axis)]
LabelField = Annotated[Any, AfterValidator(label)]
Labels = Annotated[dict[str, Listed[LabelField]], AfterValidator(_labels)]
RunMetric = Annotated[Metric, BeforeValidator(lambda name: total(str(name)))]
RoundMetric = Annotated[Metric, BeforeValidator(lambda name: by_round(str(name)))]
Without = Listed[Annotated[Any, AfterValidator(_some_label)]]


# ---------------------------------------------------------------- what a report shows


class _Section(Checked):
    without: Without = ()
    """Labels that neither compete for the best nor count in the worst case and the average."""
    title: str = ""
    """Above it; by default the metric."""


class _Summarised(_Section):
    worst_case: Axis | None = None
    """Axis over which the worst is shown."""
    average: Axis | None = None
    """Axis over which the mean is shown."""

    @property
    def over(self) -> list[tuple[str, Over]]:
        """What is taken over axes."""
        given = ((self.worst_case, Over.WORST), (self.average, Over.MEAN))
        return [(axis, kind) for axis, kind in given if axis is not None]


class TableSection(_Summarised):
    """A table: axes down and across, and what is compared.

    Where the axis of a worst case or an average is among neither rows nor columns, the table shows nothing else.
    """

    rows: Listed[Axis] = ()
    """Axes that go down; the last one changes fastest."""
    columns: Listed[Axis] = ()
    """Axes that go across."""
    metric: Listed[RunMetric] = (TOTALS["max-accuracy"],)
    """What is shown: a table for each."""
    compare_along: Listed[Annotated[str, BeforeValidator(_compared)]] = (COLUMNS,)
    """``columns`` or ``rows`` (the last axis across or down), or axes: the best of the places that differ in nothing
    else is bold."""
    block_size: Annotated[int, Field(ge=1)] | None = None
    """How many labels of the last axis down belong together: the best of each block is bold."""

    @model_validator(mode="after")
    def _has_axes(self) -> TableSection:
        twice = [f"{axis!r} is in rows and in columns; choose one." for axis in self.rows if axis in self.columns]
        missing = [] if self.rows or self.columns else ["there are neither rows nor columns; give a list of axes."]
        if twice or missing:
            raise ValueError("\n".join(twice + missing))
        return self


class _Panels(Checked):
    panels: Listed[Axis] = ()
    """Axes with a panel for each combination."""
    where: Labels = Field(default_factory=dict)
    """Labels by axis, to which the figure is limited."""


class CurvesSection(_Panels, _Section):
    """Curves over the rounds."""

    kind: Literal["curves"]
    x: Literal["round"] = "round"
    y: Listed[RoundMetric] = (by_round("accuracy"),)
    """Metrics."""
    lines: Listed[Axis] = ()
    """Axes that the curves of a panel differ in."""

    @property
    def over(self) -> list[tuple[str, Over]]:
        """Nothing: curves show all labels."""
        return []


class HeatmapSection(_Panels, _Summarised):
    """A heatmap: blocks in rows and columns."""

    kind: Literal["heatmap"]
    x: Axis
    y: Axis
    value: RunMetric = TOTALS["max-accuracy"]
    """The metric."""
    best: Axis | None = None
    """Axis of which each block shows the best label alone."""


class ChartSection(_Panels, _Summarised):
    """Bars or lines over the labels of an axis."""

    kind: Literal["bars", "lines"]
    x: Axis
    y: Listed[RunMetric] = (TOTALS["max-accuracy"],)
    """Metrics."""
    lines: Listed[Axis] = ()
    """Axes that the lines, or the bars that stand together, differ in."""


class ScatterSection(_Panels, _Section):
    """A point for each label of an axis, by two metrics."""

    kind: Literal["scatter"]
    x: RunMetric = TOTALS["final-accuracy"]
    y: RunMetric = TOTALS["final-attack-success-rate"]
    points: Axis
    """The axis."""

    @property
    def over(self) -> list[tuple[str, Over]]:
        """Nothing: each label is a point."""
        return []


FigureSection = CurvesSection | HeatmapSection | ChartSection | ScatterSection


class PaperNumber(Checked):
    """A number that the paper prints, in per cent where the metric is shown so."""

    where: Annotated[dict[str, LabelField], AfterValidator(_labels_or_over)]
    """Labels by axis; ``worst-case`` and ``average`` are labels as well, and what is meant where the axis is left out
    over which a table has one of them."""
    value: float
    """Mean."""
    spread: float | None = None
    """Standard deviation."""
    metric: RunMetric | None = None
    """For tables of this metric alone."""


class ReportSections(Checked):
    """All of them."""

    table: Listed[TableSection] = ()
    figure: Listed[Annotated[FigureSection, Field(discriminator="kind")]] = ()
    paper_numbers: Listed[PaperNumber] = ()
