"""The axes of a grid in a figure: which of them are lines, which are panels, and how lines style."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from simulations.experiments.sections import (
    ChartSection,
    CurvesSection,
    FigureSection,
    HeatmapSection,
    Label,
    Over,
    ScatterSection,
)
from simulations.reports.summary import Place, fixed
from simulations.reports.sweeps import Sweep

JOINED = " + "  # between the parts of a chain's label


@dataclass(frozen=True)
class Axes:
    """The axes of a figure, sorted by what they are for; those of a single label are among none of them."""

    lines: tuple[str, ...]
    panels: tuple[str, ...]
    over: Mapping[str, Over]


def axes_of(sweep: Sweep, section: FigureSection) -> Axes:
    """Sort a sweep's axes; those that the section does not name get panels."""
    varied = {axis for axis, labels in sweep.axes.items() if len(labels) > 1}
    over = {axis: kind for axis, kind in reversed(section.over) if axis in sweep.axes}
    given = section.lines if isinstance(section, CurvesSection | ChartSection) else ()
    lines = tuple(axis for axis in given if axis in varied)
    panels = tuple(axis for axis in section.panels if axis in varied)
    taken = {*lines, *panels, *over, *_places(section)}
    return Axes(lines, panels + tuple(axis for axis in sweep.axes if axis in varied - taken), over)


def axes_needed(section: FigureSection) -> list[str]:
    """Return the axes that a figure cannot do without."""
    best = section.best if isinstance(section, HeatmapSection) else None
    return [axis for axis in _places(section) if axis != best]


def _places(section: FigureSection) -> list[str]:
    """Return the axes whose labels have places in each panel."""
    if isinstance(section, ScatterSection):
        return [section.points]
    if isinstance(section, HeatmapSection):
        return [section.x, section.y, *([section.best] if section.best else [])]
    return [] if isinstance(section, CurvesSection) else [section.x]


def combinations(sweep: Sweep, axes: tuple[str, ...], place: Place | None = None) -> Iterator[dict[str, Label]]:
    """Yield the combinations of labels for which there are cells."""
    for labels in itertools.product(*(sweep.axes[axis] for axis in axes)):
        combination = dict(zip(axes, labels, strict=True))
        if sweep.has({**fixed(place or {}), **combination}):
            yield combination


def styles(sweep: Sweep, axes: tuple[str, ...]) -> Callable[[Mapping[str, Label]], tuple[int, ...]]:
    """Return what gives a line's style by its labels.

    Each axis gives a number, the place of the label. Labels of two parts, as "NNM + Krum" or "CWTM, ARC", give two:
    one for the rule, one for what comes with it, so that lines of one rule share a colour.
    """
    if len(axes) == 1 and _have_parts(sweep.axes[axes[0]]):
        (axis,) = axes
        split = {label: _parts(label) for label in sweep.axes[axis]}
        rules, others = (list(dict.fromkeys(parts[number] for parts in split.values())) for number in (0, 1))
        return lambda line: (rules.index(split[line[axis]][0]), others.index(split[line[axis]][1]))
    return lambda line: tuple(sweep.axes[axis].index(line[axis]) for axis in axes)


def _parts(label: Label) -> tuple[str, str]:
    """Return the rule and what comes with it."""
    text = str(label)
    before, joined, rule = text.rpartition(JOINED)
    if joined:
        return rule, before
    rule, _, variant = text.partition(", ")
    return rule, variant


def _have_parts(labels: tuple[Label, ...]) -> bool:
    """Whether there are several rules with several labels each."""
    rules = Counter(_parts(label)[0] for label in labels)
    return any(_parts(label)[1] for label in labels) and sum(number > 1 for number in rules.values()) > 1
