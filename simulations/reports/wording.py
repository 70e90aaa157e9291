"""How axes and labels are called."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from simulations.experiments.sections import Label, Over

SYMBOLS = {
    "alpha": "α",  # noqa: RUF001
    "epsilon": "ε",
    "num-malicious": "f",
    "num-nodes": "n",
    "init-scale": "μ",
    "learning-rate": "learning rate",
    "num-rounds": "rounds",
}
NAMES = {
    "alpha": "Heterogeneity α",  # noqa: RUF001
    "epsilon": "Attack factor ε",
    "num-malicious": "Malicious nodes f",
    "num-nodes": "Nodes n",
    "init-scale": "Initialisation scale μ",
    "dataset": "Data set",
    "defense": "Defence",
}


def axis_name(axis: str) -> str:
    """Return what an axis is called in headings and at axes of figures."""
    words = axis.replace("-", " ").replace("_", " ")
    return NAMES.get(axis, words[:1].upper() + words[1:] if len(words) > 1 else words)


def symbol(axis: str) -> str:
    """Return what an axis is called before its value."""
    return SYMBOLS.get(axis, axis.replace("-", " ").replace("_", " "))


def label_text(label: Label | Over) -> str:
    """Return a label for readers."""
    if isinstance(label, Over):
        return label.heading
    if isinstance(label, bool):
        return "yes" if label else "no"
    return f"{label:g}" if isinstance(label, float) else str(label)


def told(axis: str, label: Label | Over) -> str:
    """Return a label that stands alone: a name as it is, a number with its axis."""
    is_name = isinstance(label, Over) or (isinstance(label, str) and not _numeric(label))
    return label_text(label) if is_name else f"{symbol(axis)} = {label_text(label)}"


def told_all(labels: Mapping[str, Any]) -> str:
    """Return several labels."""
    return ", ".join(told(axis, label) for axis, label in labels.items())


def plain(words: str) -> str:
    """Keep words from meaning something in Markdown."""
    safe = escape(words, quote=False).replace("\n", " ")
    for sign in "|*_[]`":
        safe = safe.replace(sign, f"\\{sign}")
    return safe


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(words: list[str]) -> str:
    """Return words with commas, and an "and" before the last."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def duration(seconds: float) -> str:
    """Return hours and minutes, or seconds where it is short."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
