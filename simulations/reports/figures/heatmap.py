"""Heatmaps with a number in each block, and the best rule's name where rules compete."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import HeatmapSection, Label
from simulations.reports.figures.axes import axes_of, combinations
from simulations.reports.figures.layout import NARROW, WIDE, arrange, new_figure
from simulations.reports.figures.looks import PALETTE, tint
from simulations.reports.summary import Place, fixed, summarise
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import axis_name, label_text, told_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLOCK = (1.0, 0.52)  # inches, while there is room
AROUND = (0.95, 0.75)  # inches for the labels of a panel
SHADES = ("#F6F8EA", "#C4E2CC", "#7CC0CB", "#3F8FC0", "#1F5FA5")
MOST_NAMES = 2  # of rules that tie
POINTS = 0.62  # width of a character, as a share of the font's size


@dataclass(frozen=True)
class Block:
    """A block: its number, and which labels are best."""

    mean: float
    best: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Blocks:
    """A panel of blocks, row by row; None where no cell finished."""

    labels: Place
    rows: tuple[tuple[Block | None, ...], ...]


@dataclass(frozen=True)
class Heatmap:
    """What a heatmap shows."""

    section: HeatmapSection
    metric: Metric
    x: tuple[Label, ...]
    y: tuple[Label, ...]
    rules: tuple[Label, ...]
    panels: tuple[Blocks, ...]
    panel_axes: tuple[str, ...]
    seeds: int


def make_heatmap(whole: Sweep, section: HeatmapSection) -> Heatmap:
    """Compute what a heatmap shows."""
    sweep = whole.limited(section.where)
    axes = axes_of(sweep, section)
    metric, down = section.value, section.y
    panels, seeds = [], 0
    for labels in combinations(sweep, axes.panels):
        rows = []
        for y in sweep.axes[down]:
            row = []
            for x in sweep.axes[section.x]:
                block, count = _block(sweep, {**axes.over, **labels, section.x: x, down: y}, metric, section)
                row.append(block)
                seeds = max(seeds, count)
            rows.append(tuple(row))
        if any(block is not None for row in rows for block in row):
            panels.append(Blocks(labels, tuple(rows)))
    rules = whole.axes.get(section.best or "", ())
    return Heatmap(section, metric, sweep.axes[section.x], sweep.axes[down], rules, tuple(panels), axes.panels, seeds)


def _block(sweep: Sweep, place: Place, metric: Metric, section: HeatmapSection) -> tuple[Block | None, int]:
    """Return a block and the seeds that it is of; what nobody attacks does not compete with what is attacked."""
    best, without = section.best, section.without
    if best is None or best not in sweep.axes:
        found = summarise(sweep, place, metric, without)
        return (None, 0) if found is None else (Block(found.mean), found.seeds)
    rules = [label for label in sweep.axes[best] if label not in without]
    numbers = {label: summarise(sweep, {**place, best: label}, metric, without) for label in rules}
    known = {label: number for label, number in numbers.items() if number is not None}
    attacked = {label: known[label] for label in known if sweep.is_attacked(fixed({**place, best: label}))}
    competing = attacked or known
    if not competing:
        return None, 0
    winners = tuple(metric.best({label: number.mean for label, number in competing.items()}))
    return Block(competing[winners[0]].mean, winners), max(number.seeds for number in competing.values())


def draw_heatmap(shown: Heatmap, *, narrow: bool = False) -> Figure:
    """Draw a heatmap; on a narrow sheet panels go one below the other."""
    places = arrange([panel.labels for panel in shown.panels], narrow=narrow)
    block = _block_width(shown, places.columns, narrow=narrow)
    extra = 0.0 if shown.rules else 0.7
    width = min(NARROW if narrow else WIDE, places.columns * (block * len(shown.x) + AROUND[0]) + extra)
    height = places.rows * (BLOCK[1] * len(shown.y) + AROUND[1])
    figure = new_figure(max(width, 3.0), height)
    cells = figure.subplots(places.rows, places.columns, squeeze=False)
    for axes in cells.flat:
        axes.set_visible(False)
    scale = _Colours(shown)
    for panel, spot in zip(shown.panels, places.spots, strict=True):
        axes = cells[spot.row, spot.column]
        axes.set_visible(True)
        _draw(axes, shown, panel, scale, block)
        axes.set_title(textwrap.fill(told_all(panel.labels), int(block * len(shown.x) / 0.075)), loc="left")
        axes.tick_params(labelbottom=places.is_lowest(spot), labelleft=spot.column == 0)
    figure.supxlabel(axis_name(shown.section.x), fontsize=9)
    figure.supylabel(axis_name(shown.section.y), fontsize=9)
    if not shown.rules:
        bar = figure.colorbar(scale.mappable, ax=cells, shrink=0.9, pad=0.02)
        bar.set_label(shown.metric.heading)
        bar.outline.set_visible(False)
    return figure


def _block_width(shown: Heatmap, columns: int, *, narrow: bool) -> float:
    room = (NARROW if narrow else WIDE) / columns - AROUND[0] - (0.0 if shown.rules else 0.7 / columns)
    return min(BLOCK[0], room / len(shown.x))


class _Colours:
    """Colours of blocks: the best rule's, or by the number."""

    def __init__(self, shown: Heatmap) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, Normalize

        blocks = (block for panel in shown.panels for row in panel.rows for block in row)
        means = [block.mean for block in blocks if block is not None]
        self._rules = shown.rules
        # One hue after the other from light to dark: in grey too, more is darker.
        shades = LinearSegmentedColormap.from_list("shades", SHADES)
        self.mappable = ScalarMappable(Normalize(min(means), max(means)), shades)

    def of(self, block: Block | None) -> tuple[float, float, float]:
        if block is None:
            return (1.0, 1.0, 1.0)
        if self._rules:
            colour = PALETTE[self._rules.index(block.best[0]) % len(PALETTE)]
            return tint(colour, 0.2 if colour == "#000000" else 0.38)
        red, green, blue, _ = self.mappable.to_rgba(np.array([block.mean]))[0]
        return float(red), float(green), float(blue)


def _draw(axes: Axes, shown: Heatmap, panel: Blocks, scale: _Colours, width: float) -> None:
    colours: NDArray[np.float64] = np.array([[scale.of(block) for block in row] for row in panel.rows])
    axes.imshow(colours, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(shown.x)), [label_text(label) for label in shown.x])
    axes.set_yticks(range(len(shown.y)), [label_text(label) for label in shown.y])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(len(shown.x) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(shown.y) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.6)
    axes.tick_params(which="minor", length=0)
    for (row, column), colour in _each(colours):
        _write(axes, shown, panel.rows[row][column], (column, row), colour, width)


def _each(colours: NDArray[np.float64]) -> list[tuple[tuple[int, int], NDArray[np.float64]]]:
    rows, columns, _ = colours.shape
    return [((row, column), colours[row, column]) for row in range(rows) for column in range(columns)]


def _write(axes: Axes, shown: Heatmap, block: Block | None, place: tuple[int, int], colour: NDArray[np.float64],
           width: float) -> None:  # fmt: skip
    if block is None:
        axes.annotate("–", place, ha="center", va="center", color="0.4")  # noqa: RUF001
        return
    luminance = float(colour**2.2 @ [0.2126, 0.7152, 0.0722])
    ink: dict[str, Any] = {"ha": "center", "color": "black" if luminance > 0.22 else "white"}
    number = shown.metric.written(block.mean)
    size = _fitting(number, width, 9.0)
    if not shown.rules:
        axes.annotate(number, place, va="center", fontsize=size, **ink)
        return
    name = "\n".join(map(label_text, block.best[:MOST_NAMES])) + ("\n…" if len(block.best) > MOST_NAMES else "")
    name_size = _fitting(max(name.splitlines(), key=len), width, 8.0 if len(block.best) == 1 else 6.5)
    up, down = (1, -2) if len(block.best) == 1 else (4, 2)
    above: dict[str, Any] = {"xytext": (0, up), "textcoords": "offset points", "va": "bottom", "weight": "bold"}
    below: dict[str, Any] = {"xytext": (0, down), "textcoords": "offset points", "va": "top", "linespacing": 1.0}
    axes.annotate(number, place, fontsize=size, **above, **ink)
    axes.annotate(name, place, fontsize=name_size, **below, **ink)


def _fitting(text: str, width: float, largest: float) -> float:
    """Return the font size with which a text fits into a block."""
    return min(largest, 0.94 * width * 72 / (POINTS * max(len(text), 1)))
