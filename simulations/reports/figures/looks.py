"""How series look: told apart with any colour vision, and in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulations.reports.plots import COLOURS, MARKERS

PALETTE = (*COLOURS, "#7A4A1E", "#8A8A8A")
DASHES: tuple[Any, ...] = ("-", (0, (5.5, 2)), (0, (1.3, 1.6)), (0, (7, 1.6, 1.3, 1.6)), (0, (3, 1.4, 1, 1.4, 1, 1.4)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "oo")
BASELINE = {"color": "0.25", "markeredgecolor": "0.25", "linestyle": (0, (1, 1)), "marker": "None", "linewidth": 1.3}
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
BASELINE_BAR = {"facecolor": "0.88", "edgecolor": "0.35", "hatch": ""}
FAINT = "0.55"  # grey of spines and ticks


def line_look(look: Sequence[int]) -> dict[str, Any]:
    """Return colour, dashes and marker of a line.

    One number chooses all three; of several, the first chooses colour and marker, the others the dashes.
    """
    turn, colour, variant = _chosen(look)
    return {
        "color": PALETTE[colour],
        "marker": MARKERS[(colour + 3 * turn) % len(MARKERS)],
        "linestyle": DASHES[variant % len(DASHES)],
        "linewidth": 1.6,
        "markersize": 4.8,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def bar_look(look: Sequence[int]) -> dict[str, Any]:
    """Return colour and hatch of bars, chosen as those of lines are."""
    _, colour, variant = _chosen(look)
    return {
        "facecolor": tint(PALETTE[colour], 0.62),
        "edgecolor": PALETTE[colour],
        "hatch": HATCHES[variant % len(HATCHES)],
        "linewidth": 0.8,
    }


def _chosen(look: Sequence[int]) -> tuple[int, int, int]:
    """Return how often the palette was used up, the colour, and the variant of dashes or hatches."""
    first = look[0] if look else 0
    turn, colour = divmod(first, len(PALETTE))
    if len(look) < 2:
        return turn, colour, first + 2 * turn
    variant = look[1]
    for number in look[2:]:
        variant = 2 * variant + number
    return turn, colour, variant


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Return a colour mixed with white; strength 1 leaves it as it is."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return red, green, blue
