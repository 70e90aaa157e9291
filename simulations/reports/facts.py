"""What was run: cells, seeds, parameters, versions, and what differs from the paper's."""

from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from simulations.experiments.experiment import Choice
from simulations.experiments.sections import Label
from simulations.reports.cells import Labels
from simulations.reports.sweeps import SEED, Sweep
from simulations.reports.wording import axis_name, duration, label_text, with_axes
from simulations.wording import count, listing

PATHS = ("data-dir", "out-dir", "experiment")  # where files were, which is nobody else's business
NAMED = 12  # cells that are named one by one


@dataclass(frozen=True)
class Difference:
    """A key or an axis that the small version changes."""

    key: str
    paper: str
    here: str


@dataclass(frozen=True)
class Facts:
    """What was run."""

    summary: dict[str, str]
    problems: list[str]
    """Failed and missing cells and whatever else a reader must know, a sentence each."""
    differences: list[Difference]
    axes: dict[str, str]
    parameters: dict[str, str]
    versions: str


def make_facts(sweep: Sweep) -> Facts:
    """Collect them."""
    wall = [cell.wall_s for cell in sweep.cells if cell.wall_s is not None]
    done, planned = len(sweep.cells), len(sweep.rows)
    summary = {
        "Version": "lite: smaller than in the paper" if sweep.lite else "full: the paper's parameters",
        "Cells": f"{done} of {planned} finished" if done < planned else f"all {done} finished",
        "Seeds": listing([label_text(seed) for seed in sweep.seeds]) or "none",
    }
    if wall:
        each = f", {duration(statistics.median(wall))} each in the median" if len(wall) > 1 else ""
        summary["Time"] = f"{duration(sum(wall))} of computing, summed over the cells{each}"
    parameters = _parameters(sweep)
    common = parameters.loc[:, parameters.nunique(dropna=False) == 1]
    return Facts(
        summary=summary,
        problems=problems(sweep),
        differences=differences(sweep) if sweep.lite else [],
        axes={axis_name(axis): ", ".join(map(label_text, labels)) for axis, labels in sweep.axes.items()},
        parameters={key: _text(common[key].iloc[0]) for key in common if key not in PATHS},
        versions=_versions(sweep),
    )


def problems(sweep: Sweep) -> list[str]:
    """Say what is missing, failed or doubtful, a sentence each."""
    found = []
    if sweep.missing:
        cells = f"{count(len(sweep.missing), 'cell')} of {len(sweep.rows)}"
        found.append(f"{cells} did not run: {_some(_missing(sweep))}.")
    if sweep.failed:
        named = [f"{with_axes(_varied(cell.labels, sweep))} ({_first_line(cell.error)})" for cell in sweep.failed]
        found.append(f"{count(len(sweep.failed), 'cell')} failed: {_some(named)}.")
    if sweep.unreadable:
        are = "is" if sweep.unreadable == 1 else "are"
        found.append(f"{count(sweep.unreadable, 'line')} of cells.jsonl {are} torn and left out.")
    if sweep.outdated:
        were = "was" if sweep.outdated == 1 else "were"
        found.append(f"{count(sweep.outdated, 'cell')} of another version of the grid {were} left out.")
    for key, values in _mixed(sweep).items():
        found.append(f"Cells were run with different {key}, though no axis sets it: {', '.join(values)}.")
    return found


def _missing(sweep: Sweep) -> list[str]:
    """Name the cells that did not run; by fewer labels where nothing else with these did."""
    left, named = [_varied(labels, sweep) for labels in sweep.missing], []
    for size in (1, 2, 3):
        for axes in itertools.combinations(sorted(left[0] if left else (), key=SEED.__eq__), size):
            planned = Counter(_of(labels, axes) for labels in sweep.labels)
            gone = Counter(_of(labels, axes) for labels in left)
            whole = [labels for labels, number in gone.items() if number == planned[labels] > 1]
            named += [f"all with {with_axes(dict(labels))}" for labels in whole]
            left = [labels for labels in left if _of(labels, axes) not in whole]
    return named + [with_axes(labels) for labels in left]


def _of(labels: Labels, axes: Iterable[str]) -> tuple[tuple[str, Label], ...]:
    return tuple((axis, labels[axis]) for axis in axes)


def _some(named: Sequence[str]) -> str:
    return "; ".join(named[:NAMED]) + (f"; and {len(named) - NAMED} more" if len(named) > NAMED else "")


def _varied(labels: Labels, sweep: Sweep) -> dict[str, Label]:
    """Return the labels in which cells differ."""
    only = {axis for axis, choices in sweep.experiment.axes.items() if len(choices) == 1}
    return {axis: label for axis, label in labels.items() if axis not in only} or dict(labels)


def _first_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else "no reason is known"


def differences(sweep: Sweep) -> list[Difference]:
    """Return what the small version changes, as the experiment file says it."""
    found = []
    full, here = sweep.full, sweep.experiment
    if full.num_supernodes != here.num_supernodes:
        found.append(Difference("num-supernodes", str(full.num_supernodes), str(here.num_supernodes)))
    for key, value in here.parameters.items():
        before = full.parameters.get(key)
        if before != value:
            found.append(Difference(key, "not set" if before is None else _text(before), _text(value)))
    for axis in dict.fromkeys([*full.axes, *here.axes]):
        choices = full.axes.get(axis, ()), here.axes.get(axis, ())
        if choices[0] != choices[1]:
            found.append(Difference(f"axis {axis}", *_changed_axis(*choices)))
    return found


def _changed_axis(before: Sequence[Choice], after: Sequence[Choice]) -> tuple[str, str]:
    """Labels of an axis; with the keys that they set where labels are the same and keys are not."""
    labels = [", ".join(label_text(choice.label) for choice in group) for group in (before, after)]
    if labels[0] == labels[1]:
        pairs = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        return _keys(old for old, _ in pairs), _keys(new for _, new in pairs)
    return labels[0] or "not varied", labels[1] or "not varied"


def _keys(choices: Iterable[Choice]) -> str:
    return "; ".join(f"{label_text(choice.label)}: {_text(choice.parameters)}" for choice in choices)


def _parameters(sweep: Sweep) -> pd.DataFrame:
    """Return the run-config keys of all cells, a column each."""
    return pd.DataFrame([cell.parameters for cell in (*sweep.cells, *sweep.failed)], dtype=object)


def _mixed(sweep: Sweep) -> dict[str, list[str]]:
    """Keys that differ between cells though no axis sets them, with their values."""
    by_axes = {key for choices in sweep.experiment.axes.values() for choice in choices for key in choice.parameters}
    given = _parameters(sweep).head(len(sweep.cells)).drop(columns=[*by_axes, *PATHS, SEED], errors="ignore")
    return {key: [_text(value) for value in given[key].unique()] for key in given if given[key].nunique() > 1}


def _versions(sweep: Sweep) -> str:
    ran = pd.DataFrame([cell.versions for cell in sweep.ran], dtype=object)
    known = {package: ran[package].dropna().unique() for package in ran}
    return ", ".join(f"{package} {' and '.join(versions)}" for package, versions in known.items() if len(versions))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_text(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else label_text(value)
