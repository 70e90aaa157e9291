"""A picture of a backdoor: samples clean and triggered, and what the model of each run says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulations.reports.figures.style import COLOURS, new_sheet

CELL = 0.42  # inches a sample
NAME = 2.6  # inches for the names of runs
RIGHT, WRONG, FOOLED = "0.25", "0.6", COLOURS[1]


@dataclass(frozen=True)
class Shown:
    """Samples of a data set, clean and triggered, with their labels and the attackers' target."""

    clean: NDArray[Any]
    """(samples, height, width)"""
    triggered: NDArray[Any]
    labels: Sequence[int]
    target: int


def plot_predictions(shown: Shown, said: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> Figure:
    """Draw samples, and below them what each run's model says of the clean and of the triggered ones, by its name."""
    count = len(shown.labels)
    width = NAME + 2 * count * CELL + 0.5
    figure = new_sheet(width, (len(said) + 2.4) * CELL)
    axes = figure.add_subplot()
    axes.set(xlim=(-NAME / CELL, 2 * count + 1), ylim=(len(said) + 1.1, -1.2), aspect="equal")
    axes.set_axis_off()
    for block, (title, images) in enumerate((("clean", shown.clean), ("with the trigger", shown.triggered))):
        left = block * (count + 1)
        axes.text(left + count / 2, -0.65, title, ha="center", va="center", fontsize=9)
        for place, image in enumerate(images):
            axes.imshow(image, cmap="gray_r", extent=(left + place + 0.04, left + place + 0.96, 0.96, 0.04))
    for row, (name, answers) in enumerate(said.items(), 1):
        axes.text(-0.3, row + 0.5, name, ha="right", va="center", fontsize=9)
        for block, answer in enumerate(answers):
            _write(axes, shown, answer, block * (count + 1), row + 0.5)
    return figure


def _write(axes: Axes, shown: Shown, answer: Sequence[int], left: float, y: float) -> None:
    """Write a row of answers: bold and coloured where the model says the target of another class."""
    for place, (label, said) in enumerate(zip(shown.labels, answer, strict=True)):
        fooled = said == shown.target != label
        colour = FOOLED if fooled else RIGHT if said == label else WRONG
        weight = "bold" if fooled else "normal"
        axes.text(left + place + 0.5, y, str(said), ha="center", va="center", fontsize=10, color=colour, weight=weight)
