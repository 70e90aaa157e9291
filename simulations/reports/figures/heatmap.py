"""Heatmaps with a number in each block, and the best rule's name where rules compete."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import HeatmapSection, Label
from simulations.reports.figures.axes import axes_of, combinations
from simulations.reports.figures.style import PALETTE, WIDTH, new_sheet, tint
from simulations.reports.summary import Place, fixed, summarise
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import axis_name, label_text, with_axes

BLOCK = (1.0, 0.52)  # inches, while there is room
AROUND = (0.95, 0.75)  # inches for the labels of a panel
# One hue after the other from light to dark: in grey too, more is darker.
SHADES = LinearSegmentedColormap.from_list("shades", ["#F6F8EA", "#C4E2CC", "#7CC0CB", "#3F8FC0", "#1F5FA5"])
MOST_NAMES = 2  # of rules that tie
POINTS = 0.62  # width of a character, as a share of the font's size


@dataclass(frozen=True)
class Blocks:
    """A panel: labels, and by row and column of blocks what decides the colour, and the text; nothing: NaN and a dash.

    The colour is the number's or, where rules compete, that of the best rule.
    """

    labels: Place
    colours: pd.DataFrame
    texts: pd.DataFrame

    @property
    def title(self) -> str:
        """The labels."""
        return with_axes(self.labels)


@dataclass(frozen=True)
class Heatmap:
    """What a heatmap shows."""

    section: HeatmapSection
    metric: Metric
    rules: tuple[Label, ...]
    panels: list[Blocks]
    panel_axes: tuple[str, ...]
    seeds: int


def make_heatmap(whole: Sweep, section: HeatmapSection) -> Heatmap:
    """Compute what a heatmap shows."""
    sweep = whole.limited(section.where)
    axes, rules = axes_of(sweep, section), whole.axes.get(section.best or "", ())
    across, down = ([label_text(label) for label in sweep.axes[axis]] for axis in (section.x, section.y))
    panels, seeds = [], 0
    for labels in combinations(sweep, axes.panels):
        colours = pd.DataFrame(math.nan, index=down, columns=across)
        texts = pd.DataFrame("–", index=down, columns=across)  # noqa: RUF001
        for row, y in enumerate(sweep.axes[section.y]):
            for column, x in enumerate(sweep.axes[section.x]):
                means = _means(sweep, {**axes.over, **labels, section.x: x, section.y: y}, section)
                best = section.value.best({rule: mean for rule, (mean, _) in means.items()}) if means else []
                if best:
                    mean = means[best[0]][0]
                    names = [label_text(rule) for rule in best if rule in rules]
                    colours.iloc[row, column] = rules.index(best[0]) if names else mean
                    more = ["…"] if len(names) > MOST_NAMES else []
                    texts.iloc[row, column] = "\n".join([section.value.written(mean), *names[:MOST_NAMES], *more])
                seeds = max([seeds, *(number for _, number in means.values())])
        if colours.notna().any(axis=None):
            panels.append(Blocks(labels, colours, texts))
    return Heatmap(section, section.value, rules, panels, axes.panels, seeds)


def _means(sweep: Sweep, place: Place, section: HeatmapSection) -> dict[Label, tuple[float, int]]:
    """Return mean and number of seeds of each rule that competes, or of the place itself under an empty name.

    What nobody attacks does not compete with what is attacked.
    """
    best = section.best if section.best in sweep.axes else None
    labels = [label for label in sweep.axes[best] if label not in section.without] if best else [""]
    places = {label: {**place, best: label} if best else place for label in labels}
    found = {label: summarise(sweep, at, section.value, section.without) for label, at in places.items()}
    known = {label: (one.mean, len(one.by_seed)) for label, one in found.items() if one is not None}
    attacked = {label: known[label] for label in known if sweep.is_attacked(fixed(places[label]))}
    return attacked or known


def draw_heatmap(shown: Heatmap, panels: list[Blocks]) -> Figure:
    """Draw panels of a heatmap, two beside each other where they are narrow."""
    rows, columns = panels[0].colours.shape
    beside = 2 if len(panels) > 1 and 2 * columns * BLOCK[0] < 2 * WIDTH else 1
    scale = 0.0 if shown.rules else 0.7
    block = min(BLOCK[0], ((WIDTH - scale) / beside - AROUND[0]) / columns)
    lines = math.ceil(len(panels) / beside)
    figure = new_sheet(max(3.0, beside * (block * columns + AROUND[0]) + scale), lines * (BLOCK[1] * rows + AROUND[1]))
    sheet = figure.subplots(lines, beside, squeeze=False)
    for axes in sheet.flat[len(panels) :]:
        axes.set_visible(False)
    colours, norm = _colours(shown)
    for number, (axes, panel) in enumerate(zip(sheet.flat, panels, strict=False)):
        _draw(axes, panel, colours, norm, block)
        axes.set_title(textwrap.fill(panel.title, max(12, int(block * columns / 0.075))), loc="left")
        axes.tick_params(labelbottom=number + beside >= len(panels), labelleft=number % beside == 0, length=0)
    figure.supxlabel(axis_name(shown.section.x), fontsize=9)
    figure.supylabel(axis_name(shown.section.y), fontsize=9)
    if not shown.rules:
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=sheet, shrink=0.9, pad=0.02)
        bar.set_label(shown.metric.heading)
        bar.outline.set_visible(False)
    return figure


def _colours(shown: Heatmap) -> tuple[Colormap, Normalize]:
    """Return a colour for each rule, or shades for the range of the numbers."""
    if shown.rules:
        tints = [tint(colour, 0.2 if colour == "#000000" else 0.38) for colour in PALETTE]
        return ListedColormap([tints[number % len(tints)] for number in range(len(shown.rules))]), Normalize(
            -0.5, len(shown.rules) - 0.5
        )
    numbers = pd.concat([panel.colours.stack() for panel in shown.panels])
    return SHADES, Normalize(numbers.min(), numbers.max())


def _draw(axes: Axes, panel: Blocks, colours: Colormap, norm: Normalize, width: float) -> None:
    longest = max((len(line) for text in panel.texts.stack() for line in text.splitlines()), default=1)
    size = min(9.0, 0.94 * width * 72 / (POINTS * longest))
    sns.heatmap(
        panel.colours,
        cmap=colours,
        norm=norm,
        annot=panel.texts,
        fmt="",
        annot_kws={"fontsize": size},
        linewidths=1.6,
        linecolor="white",
        cbar=False,
        ax=axes,
    )
    for row, column in zip(*panel.colours.isna().to_numpy().nonzero(), strict=True):
        axes.text(column + 0.5, row + 0.5, panel.texts.iloc[row, column], ha="center", va="center", color="0.4")
    axes.set(xlabel=None, ylabel=None)
    axes.tick_params(rotation=0)
