"""Mistakes in ``[table]``, ``[[figure]]`` and ``[[paper-numbers]]``, each told in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from simulations.experiments import metrics
from simulations.experiments.experiment import Label
from simulations.experiments.sections import BARS, COLUMNS, CURVES, HEATMAP, LINES, ROWS, listed
from simulations.wording import unknown

Section = Mapping[str, Any]
Known = Mapping[str, Sequence[Label]]  # the labels of each axis, full and lite

OVER = ("worst-case", "average")
TABLE_KEYS = ("rows", "columns", "metric", *OVER, "compare-along", "block-size", "without", "title")
SINGLE = ("x", "best", *OVER)  # keys that name one axis
FIGURE_KEYS = {
    CURVES: ("x", "y", "lines", "panels"),
    HEATMAP: ("x", "y", "value", "panels", "best", *OVER),
    BARS: ("x", "y", "lines", "panels", *OVER),
    LINES: ("x", "y", "lines", "panels", *OVER),
}
ANY_FIGURE_KEYS = ("kind", "where", "without", "title")
NUMBER_KEYS = ("where", "value", "spread", "metric")


def check_report_sections(raw: Section, known: Known) -> Iterator[str]:
    """Yield a sentence for each mistake in what an experiment file says of its report.

    Parameters
    ----------
    raw : mapping
        The file, as `tomllib` reads it.
    known : mapping
        The labels of each axis of the full and of the small grid.
    """
    for key, heading, check in (
        ("table", "[table]", _table),
        ("figure", "[[figure]]", _figure),
        ("paper-numbers", "[[paper-numbers]]", _number),
    ):
        for section in listed(raw.get(key)):
            if isinstance(section, Mapping):
                yield from (f"{heading} {mistake}" for mistake in check(section, known))
            else:
                yield f"{key}={section!r} must be a table: write {heading}."


def _table(section: Section, known: Known) -> Iterator[str]:
    yield from _keys(section, TABLE_KEYS)
    rows, columns = listed(section.get("rows")), listed(section.get("columns"))
    if not rows and not columns:
        yield "has neither rows nor columns; give each a list of axes."
    for axis in rows:
        if axis in columns:
            yield f"has {axis!r} in rows and in columns; choose one."
    for key in ("rows", "columns", *OVER):
        yield from _axes(section, key, known)
    yield from _axes(section, "compare-along", {COLUMNS: (), ROWS: (), **known})
    for metric in listed(section.get("metric")):
        yield from _metric("metric", metrics.total, metric)
    yield from _without(section, known)
    size = section.get("block-size", 1)
    if type(size) is not int or size < 1:
        yield f"block-size={size!r} must be a whole number, at least 1."


def _figure(section: Section, known: Known) -> Iterator[str]:
    kind = section.get("kind")
    if kind not in FIGURE_KEYS:
        yield unknown("has the unknown kind", FIGURE_KEYS, kind)
        return
    yield from _keys(section, (*ANY_FIGURE_KEYS, *FIGURE_KEYS[kind]))
    if kind == CURVES and section.get("x", "round") != "round":
        yield f"x={section['x']!r} must be 'round' for curves; for an axis choose kind = 'lines'."
    for key in ("x", "y") if kind == HEATMAP else ("x",) if kind != CURVES else ():
        if len(listed(section.get(key))) != 1:
            yield f"of kind {kind} needs one axis as {key}."
        yield from _axes(section, key, known)
    for metric in listed(section.get("value" if kind == HEATMAP else "y")):
        yield from _metric("y", metrics.by_round if kind == CURVES else metrics.total, metric)
    for key in ("lines", "panels", "best", *OVER):
        yield from _axes(section, key, known)
    yield from _where(section.get("where", {}), known)
    yield from _without(section, known)


def _number(section: Section, known: Known) -> Iterator[str]:
    yield from _keys(section, NUMBER_KEYS)
    for metric in listed(section.get("metric")):
        yield from _metric("metric", metrics.total, metric)
    for key in ("value", *(key for key in ("spread",) if key in section)):
        if isinstance(section.get(key), bool) or not isinstance(section.get(key), Real):
            yield f"{key}={section.get(key)!r} must be a number."
    yield from _where(section.get("where"), {axis: (*labels, *OVER) for axis, labels in known.items()})


def _where(where: Any, known: Known) -> Iterator[str]:
    if not isinstance(where, Mapping):
        yield f"where={where!r} must be a table of labels by axis."
        return
    for axis, wanted in where.items():
        if axis not in known:
            yield unknown("where has the unknown axis", known, axis)
            continue
        for label in listed(wanted):
            if label not in known[axis]:
                yield unknown(f"where {axis} has the unknown value", dict.fromkeys(known[axis]), label)


def _without(section: Section, known: Known) -> Iterator[str]:
    labels = dict.fromkeys(label for of_axis in known.values() for label in of_axis)
    for label in listed(section.get("without")):
        if label not in labels:
            yield unknown("without has the unknown label", labels, label)


def _metric(key: str, find: Callable[[str], object], name: Any) -> Iterator[str]:
    try:
        find(str(name))
    except ValueError as error:
        yield f"{key}: {error}"


def _axes(section: Section, key: str, known: Iterable[str]) -> Iterator[str]:
    if key in SINGLE and len(listed(section.get(key))) > 1:
        yield f"{key}={section[key]!r} must be one axis."
    for axis in listed(section.get(key)):
        if axis not in known:
            yield unknown(f"{key} has the unknown axis", known, axis)


def _keys(section: Section, allowed: Iterable[str]) -> Iterator[str]:
    for key in section:
        if key not in allowed:
            yield unknown("has the unknown key", allowed, key)
