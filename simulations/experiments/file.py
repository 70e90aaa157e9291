"""From the TOML of an experiment file to an `Experiment`, checked: every mistake is one sentence that names its place.

Whether the run-config keys and their values can be run is checked in `simulations.sweep.cells`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulations.experiments.experiment import Choice, Experiment, ExperimentError, Label
from simulations.experiments.section_checks import check_report_sections
from simulations.wording import unknown

Axes = dict[str, tuple[Choice, ...]]
Rules = tuple[dict[str, tuple[Label, ...]], ...]

TEXTS = ("title", "source", "paper", "claim")
SECTIONS = (*TEXTS, "federation", "parameters", "grid", "exclude", "table", "figure", "paper-numbers", "lite")
LITE_SECTIONS = ("claim", "federation", "parameters", "grid", "exclude")
NO_PARAMETERS = ("experiment", "out-dir")  # what only a single run's configuration may say


def read_experiment(raw: Mapping[str, Any], path: Path) -> Experiment:
    """Read a parsed file.

    Raises
    ------
    ExperimentError
        With one sentence for each mistake.
    """
    problems: list[str] = []
    full = _version(raw, path, problems)
    problems += _unknown_keys(raw, SECTIONS, "has the unknown key")
    if not isinstance(raw.get("parameters"), dict):
        problems.append("has no [parameters] table; add one with run-config keys.")
    lite = None
    if "lite" in raw:
        lite = _lite(raw, path, problems)
    problems += _references(raw, [full.axes, lite.axes if lite else {}])
    if problems:
        raise ExperimentError("\n".join(f"{path.name} {problem}" for problem in dict.fromkeys(problems)))
    return replace(full, lite=lite)


def _lite(raw: Mapping[str, Any], path: Path, problems: list[str]) -> Experiment | None:
    """Put the parts of [lite] in the places of the full version's."""
    given = raw["lite"]
    if not isinstance(given, dict):
        problems.append("lite must be a table: write [lite].")
        return None
    problems += _unknown_keys(given, LITE_SECTIONS, "[lite] has the unknown key")
    merged: dict[str, Any] = {**raw, **given}
    for section in ("federation", "parameters", "grid"):
        merged[section] = _table(raw, section, []) | _table(given, section, problems, "[lite] ")
    merged["grid"] = {axis: values for axis, values in merged["grid"].items() if values != []}
    found: list[str] = []
    version = _version(merged, path, found)
    problems += [f"[lite] {problem}" for problem in found if problem not in problems]
    return replace(version, is_lite=True)


def _version(raw: Mapping[str, Any], path: Path, problems: list[str]) -> Experiment:
    """Read all but [lite] and what the report alone needs."""
    for key in TEXTS:
        if not isinstance(raw.get(key, ""), str):
            problems.append(f"{key}={raw[key]!r} must be a text in quotes.")
    federation = _table(raw, "federation", problems)
    problems += _unknown_keys(federation, ("num-supernodes",), "[federation] has the unknown key")
    supernodes = federation.get("num-supernodes")
    if supernodes is not None and (type(supernodes) is not int or supernodes < 1):
        problems.append(f"[federation] num-supernodes={supernodes!r} must be a whole number, at least 1.")
        supernodes = None
    parameters = _table(raw, "parameters", problems)
    problems += _forbidden(parameters, "[parameters]")
    return Experiment(
        name=path.stem,
        path=path,
        title=str(raw.get("title", "")),
        source=str(raw.get("source", "")),
        paper=str(raw.get("paper", "")),
        claim=str(raw.get("claim", "")),
        num_supernodes=supernodes,
        parameters=parameters,
        axes={axis: _axis(axis, values, problems) for axis, values in _table(raw, "grid", problems).items()},
        exclude=_exclude(raw.get("exclude", []), problems),
    )


def _table(raw: Mapping[str, Any], key: str, problems: list[str], origin: str = "") -> dict[str, Any]:
    value = raw.get(key, {})
    if isinstance(value, dict):
        return dict(value)
    problems.append(f"{origin}{key} must be a table: write [{key}].")
    return {}


def _axis(axis: str, values: Any, problems: list[str]) -> tuple[Choice, ...]:
    """Read an axis: a list of values of the key with its name, or of tables with a label."""
    if not isinstance(values, list) or not values:
        problems.append(f"[grid] {axis} must be a list with at least one value.")
        return ()
    choices: list[Choice] = []
    for value in values:
        if not isinstance(value, dict):
            label, parameters = value, {axis: value}
        elif "label" in value:
            label, parameters = value["label"], {key: item for key, item in value.items() if key != "label"}
        else:
            problems.append(f'[grid] {axis}: the table {value} has no label; add label = "...".')
            continue
        if not isinstance(label, Label):
            problems.append(f"[grid] {axis}: {label!r} must be a text, a number, true or false.")
            continue
        problems += _forbidden(parameters, f"[grid] {axis} = {label!r}")
        if label in [choice.label for choice in choices]:
            problems.append(f"[grid] {axis} has {label!r} twice; each value must have a label of its own.")
        choices.append(Choice(label, parameters))
    return tuple(choices)


def _exclude(rules: Any, problems: list[str]) -> Rules:
    if not isinstance(rules, list) or not all(isinstance(rule, dict) and rule for rule in rules):
        problems.append("exclude must be a list of tables with axes and labels: write [[exclude]].")
        return ()
    return tuple({axis: tuple(_listed(labels)) for axis, labels in rule.items()} for rule in rules)


def _references(raw: Mapping[str, Any], versions: Iterable[Axes]) -> Iterator[str]:
    """Find axes and labels that neither the full nor the lite grid has."""
    labels: dict[str, list[Label]] = {}
    for axes in versions:
        for axis, choices in axes.items():
            labels.setdefault(axis, []).extend(choice.label for choice in choices)
    for place, rules in (("exclude", raw.get("exclude")), ("lite.exclude", _table(raw, "lite", []).get("exclude"))):
        for rule in _tables(rules):
            yield from _unknown_labels(rule, labels, f"[[{place}]]")
    yield from check_report_sections(raw, labels)


def _unknown_labels(rule: Mapping[str, Any], labels: Mapping[str, list[Label]], origin: str) -> Iterator[str]:
    for axis, given in rule.items():
        if axis not in labels:
            yield unknown(f"{origin} has the unknown axis", labels, axis)
            continue
        for label in _listed(given):
            if label not in labels[axis]:
                yield unknown(f"{origin} {axis} has the unknown value", dict.fromkeys(labels[axis]), label)


def _unknown_keys(given: Mapping[str, Any], allowed: Iterable[str], what: str) -> Iterator[str]:
    for key in given:
        if key not in allowed:
            yield unknown(what, allowed, key)


def _forbidden(parameters: Mapping[str, Any], origin: str) -> Iterator[str]:
    for key in NO_PARAMETERS:
        if key in parameters:
            yield f"{origin} sets {key}, which is no parameter of an experiment; leave it out."


def _tables(value: Any) -> list[dict[str, Any]]:
    return [item for item in value or [] if isinstance(item, dict)] if isinstance(value, list) else []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
