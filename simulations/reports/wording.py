"""What axes, labels and times are called in reports."""

from __future__ import annotations

from collections.abc import Mapping

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


def label_text(label: Label | Over) -> str:
    """Return a label for readers."""
    if isinstance(label, Over):
        return label.heading
    if isinstance(label, bool):
        return "yes" if label else "no"
    return f"{label:g}" if isinstance(label, float) else str(label)


def with_axis(axis: str, label: Label | Over) -> str:
    """Return a label that stands alone: a name as it is, a number with its axis."""
    text = label_text(label)
    is_name = isinstance(label, Over) or (isinstance(label, str) and not _is_number(label))
    return text if is_name else f"{SYMBOLS.get(axis, axis.replace('-', ' ').replace('_', ' '))} = {text}"


def with_axes(labels: Mapping[str, Label | Over]) -> str:
    """Return several labels that stand alone."""
    return ", ".join(with_axis(axis, label) for axis, label in labels.items())


def lower(text: str) -> str:
    """Return a title as it stands within a sentence."""
    return text[:1].lower() + text[1:]


def duration(seconds: float) -> str:
    """Return hours and minutes, or seconds where it is short."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
