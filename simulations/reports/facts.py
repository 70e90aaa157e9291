"""What was run: cells, seeds, parameters, versions, and what differs from the paper's."""

from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulations.experiments.experiment import Choice
from simulations.experiments.sections import Label
from simulations.reports.cells import Cell, Labels
from simulations.reports.sweeps import SEED, Sweep
from simulations.reports.wording import axis_name, count, duration, label_text, listing, told_all

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
    """What was run.

    Attributes
    ----------
    summary : list of (str, str)
        Short facts, each with what it is.
    problems : list of str
        Failed and missing cells and whatever else a reader must know, a sentence each.
    differences : list of Difference
        What the small version changes.
    axes : list of (str, str)
        Axes of the grid and their labels.
    parameters : list of (str, str)
        Run-config keys that hold for all cells.
    versions : str
        Of the packages.
    """

    summary: list[tuple[str, str]]
    problems: list[str]
    differences: list[Difference]
    axes: list[tuple[str, str]]
    parameters: list[tuple[str, str]]
    versions: str


def make_facts(sweep: Sweep) -> Facts:
    """Collect them."""
    wall = [cell.totals["wall-seconds"] for cell in sweep.cells if "wall-seconds" in cell.totals]
    done, asked = len(sweep.cells), len(sweep.cells) + len(sweep.failed) + len(sweep.missing)
    summary = [
        ("Version", "lite: smaller than in the paper" if sweep.lite else "full: the paper's parameters"),
        ("Cells", f"{done} of {asked} finished" if done < asked else f"all {done} finished"),
        ("Seeds", listing([label_text(seed) for seed in sweep.seeds]) or "none"),
    ]
    if wall:
        each = f", {duration(statistics.median(wall))} each in the median" if len(wall) > 1 else ""
        summary.append(("Time", f"{duration(sum(wall))} of computing, summed over the cells{each}"))
    return Facts(
        summary=summary,
        problems=problems(sweep),
        differences=differences(sweep) if sweep.lite else [],
        axes=[(axis_name(axis), ", ".join(map(label_text, labels))) for axis, labels in sweep.axes.items()],
        parameters=common_parameters(sweep),
        versions=_versions(sweep.cells or sweep.failed),
    )


def problems(sweep: Sweep) -> list[str]:
    """Say what is missing, failed or doubtful, a sentence each."""
    found = []
    if sweep.missing:
        told = told_missing(sweep)
        found.append(f"{count(len(sweep.missing), 'cell')} of {len(sweep.planned)} did not run: {told}.")
    if sweep.failed:
        found.append(f"{count(len(sweep.failed), 'cell')} failed: {_failed(sweep)}.")
    if sweep.unreadable:
        are = "is" if sweep.unreadable == 1 else "are"
        found.append(f"{count(sweep.unreadable, 'line')} of cells.jsonl {are} torn and passed over.")
    if sweep.outdated:
        were = "was" if sweep.outdated == 1 else "were"
        found.append(f"{count(sweep.outdated, 'cell')} of another version of the grid {were} passed over.")
    for key, values in _mixed(sweep).items():
        found.append(f"Cells were run with different {key}, though no axis sets it: {', '.join(values)}.")
    return found


def told_missing(sweep: Sweep) -> str:
    """Name the cells that did not run; by fewer labels where nothing else with these did."""
    left, named = [_named(cell, sweep) for cell in sweep.missing], []
    for size in (1, 2, 3):
        for axes in itertools.combinations(sorted(left[0] if left else (), key=SEED.__eq__), size):
            asked = Counter(_labels(cell, axes) for cell in sweep.planned)
            gone = Counter(_labels(cell, axes) for cell in left)
            whole = [labels for labels, number in gone.items() if number == asked[labels] > 1]
            named += [f"all with {told_all(dict(zip(axes, labels, strict=True)))}" for labels in whole]
            left = [cell for cell in left if _labels(cell, axes) not in whole]
    named += [told_all(cell) for cell in left]
    return "; ".join(named[:NAMED]) + (f"; and {len(named) - NAMED} more" if len(named) > NAMED else "")


def _labels(cell: Labels, axes: Sequence[str]) -> tuple[Label | None, ...]:
    return tuple(cell.get(axis) for axis in axes)


def _failed(sweep: Sweep) -> str:
    cells = sweep.failed
    named = [f"{told_all(_named(cell.labels, sweep))} ({_first_line(cell.error)})" for cell in cells[:NAMED]]
    return "; ".join(named) + (f"; and {len(cells) - NAMED} more" if len(cells) > NAMED else "")


def _named(labels: Labels, sweep: Sweep) -> dict[str, Label]:
    """Return the labels that tell cells apart."""
    only = {axis for axis, choices in sweep.experiment.axes.items() if len(choices) == 1}
    return {axis: label for axis, label in labels.items() if axis not in only} or dict(labels)


def _first_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else "no reason was told"


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
        before, after = full.axes.get(axis, ()), here.axes.get(axis, ())
        if before != after:
            told = _changed_axis(before, after)
            found.append(Difference(f"axis {axis}", *told))
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


def common_parameters(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the run-config keys that have one value in all cells."""
    cells = (*sweep.cells, *sweep.failed)
    first = cells[0].parameters
    same = {key for key in first if all(cell.parameters.get(key) == first[key] for cell in cells)}
    return [(key, _text(first[key])) for key in first if key in same and key not in PATHS]


def _mixed(sweep: Sweep) -> dict[str, list[str]]:
    """Keys that differ between cells though no axis sets them, with their values."""
    by_axes = {key for choices in sweep.experiment.axes.values() for choice in choices for key in choice.parameters}
    found = {}
    for key in (*sweep.cells, *sweep.failed)[0].parameters:
        seen = list(dict.fromkeys(_text(cell.parameters.get(key)) for cell in sweep.cells))
        if len(seen) > 1 and key not in {*by_axes, *PATHS, SEED}:
            found[key] = seen
    return found


def _versions(cells: Sequence[Cell]) -> str:
    seen: dict[str, list[str]] = {}
    for cell in cells:
        for package, version in cell.versions.items():
            if version is not None and version not in seen.setdefault(package, []):
                seen[package].append(version)
    return ", ".join(f"{package} {' and '.join(versions)}" for package, versions in seen.items() if versions)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_text(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else label_text(value)
