"""Panels on a sheet: how many beside each other, how large, the legend, the file."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simulations.reports.figures.looks import FAINT, FONT
from simulations.reports.summary import Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 10.0, 4.1  # inches: a screen's or a sheet's width, and a phone's
MOST_COLUMNS = 5
ALONE, PAIRED = 6.4, 4.2  # width of a single panel, and of one of two
ASPECT = 0.66
BAR = 0.11  # inches a bar, where there are many
HANDLE = 2.8  # length of a legend's lines, in font sizes
CHARACTER = 0.072  # inches a character of the legend
DPI = 150


@dataclass(frozen=True)
class Spot:
    """Where a panel is."""

    row: int
    column: int


@dataclass(frozen=True)
class Arrangement:
    """Where panels are, and how large a sheet they need.

    Attributes
    ----------
    spots : tuple of Spot
        One for each panel.
    rows, columns : int
        Of the whole sheet.
    """

    spots: tuple[Spot, ...]
    rows: int
    columns: int

    def is_lowest(self, spot: Spot) -> bool:
        """Tell whether no panel is below a spot."""
        return not any(other.column == spot.column and other.row > spot.row for other in self.spots)


def arrange(labels: Sequence[Place], *, narrow: bool) -> Arrangement:
    """Place panels: one below the other on a narrow sheet; else in a grid of their axes that has no gap, or in rows."""
    count = len(labels)
    if narrow or count == 1:
        return Arrangement(tuple(Spot(number, 0) for number in range(count)), count, 1)
    axes = list(labels[0])
    for across in reversed(axes) if len(axes) > 1 else ():
        columns = list(dict.fromkeys(place[across] for place in labels))
        rows = list(dict.fromkeys(_without(place, across) for place in labels))
        full = len(rows) * len(columns) == count
        if 1 < len(columns) <= MOST_COLUMNS and len(rows) > 1 and full:
            spots = (Spot(rows.index(_without(place, across)), columns.index(place[across])) for place in labels)
            return Arrangement(tuple(spots), len(rows), len(columns))
    columns_in_row = count if count <= 3 else 2 if count == 4 else 3
    spots = (Spot(*divmod(number, columns_in_row)) for number in range(count))
    return Arrangement(tuple(spots), math.ceil(count / columns_in_row), columns_in_row)


def _without(place: Place, axis: str) -> tuple[object, ...]:
    return tuple(label for name, label in place.items() if name != axis)


def panel_width(columns: int, bars: int = 0, *, narrow: bool) -> float:
    """Return how wide a panel is, in inches; one alone with many bars gets more."""
    if narrow:
        return NARROW
    alone = min(WIDE, max(ALONE, BAR * bars + 1.0))
    return alone if columns == 1 else min(WIDE / columns, PAIRED)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty sheet that needs no window system and leaves no global state behind."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def add_legend(figure: Figure, handles: Mapping[str, Any], width: float) -> None:
    """Put the legend above all panels; none where there is nothing to tell apart."""
    if not handles:
        return
    figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        loc="outside upper center",
        ncols=legend_columns(list(handles), width),
        frameon=False,
        handlelength=HANDLE,
        columnspacing=1.4,
    )


def legend_columns(names: Sequence[str], width: float) -> int:
    """Return how many columns the fewest lines need that have room for all names."""
    longest = max((len(name) for name in names), default=0)
    most = max(1, min(len(names), int(width / (CHARACTER * longest + 0.62))))
    return math.ceil(len(names) / math.ceil(len(names) / most)) if names else 1


def legend_height(names: Sequence[str], width: float) -> float:
    """Return how high the legend will be, in inches."""
    return 0.2 * math.ceil(len(names) / legend_columns(names, width)) + 0.12 if names else 0.0


def tidy(axes: Axes) -> None:
    """Take away what is not needed to read a panel."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(color=FAINT, length=3)


def png(figure: Figure) -> bytes:
    """Return a sheet as a PNG of 256 colours, a third of the size of one with all of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all is in place: to lay it out once more would take as long again
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    sheet = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    file = io.BytesIO()
    sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


def style() -> Any:
    """Return the context in which figures are drawn."""
    from matplotlib import rc_context

    return rc_context(FONT)
