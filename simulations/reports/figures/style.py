"""How lines, bars and sheets style: lines differ for any colour vision, and in grey."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PALETTE = (*COLOURS, "#7A4A1E", "#8A8A8A")
DASHES: tuple[Any, ...] = ("-", (0, (5.5, 2)), (0, (1.3, 1.6)), (0, (7, 1.6, 1.3, 1.6)), (0, (3, 1.4, 1, 1.4, 1, 1.4)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "oo")
BASELINE = {"color": "0.25", "linestyle": (0, (1, 1)), "marker": "None", "linewidth": 1.3}
BASELINE_BAR = {"facecolor": "0.88", "edgecolor": "0.35", "hatch": ""}
FAINT = "0.55"  # grey of spines and ticks
FONT: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 9.0,
    "hatch.linewidth": 0.6,
    "axes.axisbelow": True,
}
# A sheet is as wide as a column of a page: on a phone its letters shrink by a quarter, on paper not at all.
WIDTH = 5.4  # inches
DPI = 180


def line_style(style: Sequence[int], *, baseline: bool = False) -> dict[str, Any]:
    """Return colour, dashes and marker of a line.

    One number chooses all three; of several, the first chooses colour and marker, the others the dashes.
    """
    turn, colour, variant = _chosen(style)
    return {
        "color": PALETTE[colour],
        "marker": MARKERS[(colour + 3 * turn) % len(MARKERS)],
        "linestyle": DASHES[variant % len(DASHES)],
        "linewidth": 1.6,
        "markersize": 4.8,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    } | (BASELINE if baseline else {})


def bar_style(style: Sequence[int], *, baseline: bool = False) -> dict[str, Any]:
    """Return colour and hatch of bars, chosen as those of lines are."""
    _, colour, variant = _chosen(style)
    return {
        "facecolor": tint(PALETTE[colour], 0.62),
        "edgecolor": PALETTE[colour],
        "hatch": HATCHES[variant % len(HATCHES)],
        "linewidth": 0.8,
    } | (BASELINE_BAR if baseline else {})


def _chosen(style: Sequence[int]) -> tuple[int, int, int]:
    """Return how often the palette was used up, the colour, and the variant of dashes or hatches."""
    first = style[0] if style else 0
    turn, colour = divmod(first, len(PALETTE))
    if len(style) < 2:
        return turn, colour, first + 2 * turn
    variant = style[1]
    for number in style[2:]:
        variant = 2 * variant + number
    return turn, colour, variant


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Return a colour mixed with white; strength 1 leaves it as it is."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def new_sheet(width: float, height: float) -> Figure:
    """Return an empty sheet that needs no window system and leaves no global state behind."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """Take away what is not needed to read a panel."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(color=FAINT, length=3)
    axes.set(xlabel=None, ylabel=None)


def png(figure: Figure) -> bytes:
    """Return a sheet as a PNG of 256 colours, a third of the size of one with all of them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all is in place: to lay it out once more would take as long again
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    sheet = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    file = io.BytesIO()
    sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()
