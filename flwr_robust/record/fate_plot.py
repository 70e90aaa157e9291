"""A picture of a run: what became of each node in each round."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from flwr_robust.record.fates import Fate, Node, RunFates

# Okabe and Ito's palette, with pale tones for what is as it should be.
LOOKS: dict[Fate, tuple[str, str]] = {
    Fate.NOT_SELECTED: ("#FFFFFF", "not selected"),
    Fate.USED: ("#D3E4F1", "used"),
    Fate.CLIPPED: ("#F0C75E", "clipped"),
    Fate.PARTLY_USED: ("#56B4E9", "used in some layers"),
    Fate.ZERO_WEIGHT: ("#0072B2", "weight 0"),
    Fate.QUARANTINED: ("#D55E00", "quarantined"),
    Fate.EXCLUDED: ("#000000", "excluded (suspicion)"),
    Fate.SKIPPED: ("#C8C8C8", "usable, round skipped"),
    Fate.NO_REPLY: ("#CC79A7", "no reply"),
}
MALICIOUS = "#B03A00"
ROW, COLUMN = 0.24, 0.3  # inches a node and a round, while there is room
WIDTH, HEIGHT = (7.0, 14.0), (2.6, 20.0)
TEXT_ROW = 0.17  # inches below which rows are too low for a label each
CHARACTERS = 12  # of the title, an inch
MAX_BORDERED = 60  # rounds up to which cells have white borders


def plot_fates(run: RunFates, path: Path) -> Path:
    """Draw a run: nodes as rows, rounds as columns, a colour for each fate.

    Parameters
    ----------
    run : RunFates
        What to draw.
    path : Path
        The picture's file; its ending chooses the format.

    Returns
    -------
    Path
        The file that was written.
    """
    nodes, rounds = run.fates.shape
    width = min(max(COLUMN * rounds + 1.5, WIDTH[0]), WIDTH[1])
    height = min(max(ROW * nodes + 1.7, HEIGHT[0]), HEIGHT[1])
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window system needed, and no global state left behind
    axes = figure.add_subplot()
    row_height = (height - 1.7) / max(nodes, 1)
    _draw_cells(axes, run, row_height)
    _label_nodes(axes, run.nodes, row_height)
    _label_rounds(axes, run.rounds)
    _mark_skipped(axes, run)
    axes.set_title(_title(run, int(CHARACTERS * width)), fontsize=10, loc="left", pad=14 if run.skipped else 6)
    present = [fate for fate in Fate if fate in run.fates]
    figure.legend(
        handles=[Patch(facecolor=LOOKS[fate][0], edgecolor="0.6", label=LOOKS[fate][1]) for fate in present],
        loc="outside lower center",
        ncols=min(len(present), 4 if width < 10 else 8),
        frameon=False,
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def percent(rate: float | None) -> str:
    """Return a rate for readers; a dash where there is none."""
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _draw_cells(axes: Axes, run: RunFates, row_height: float) -> None:
    nodes, rounds = run.fates.shape
    axes.pcolormesh(
        np.arange(rounds + 1) - 0.5,
        np.arange(nodes + 1) - 0.5,
        run.fates,
        cmap=ListedColormap([LOOKS[fate][0] for fate in Fate]),
        norm=BoundaryNorm(np.arange(len(Fate) + 1) - 0.5, len(Fate)),
        edgecolors="white" if rounds <= MAX_BORDERED else "none",
        linewidth=0.8 if rounds <= MAX_BORDERED else 0.0,
    )
    if row_height > TEXT_ROW / 2:  # rows stay apart where columns are too narrow for borders
        axes.hlines(np.arange(1, nodes) - 0.5, -0.5, rounds - 0.5, color="white", linewidth=0.8)
    axes.set(xlim=(-0.5, rounds - 0.5), ylim=(nodes - 0.5, -0.5))
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _label_nodes(axes: Axes, nodes: Sequence[Node], row_height: float) -> None:
    step = max(1, int(np.ceil(TEXT_ROW / row_height)))
    ticks = list(range(0, len(nodes), step))
    axes.set_yticks(ticks, [nodes[tick].label for tick in ticks], fontsize=8)
    axes.tick_params(length=0)
    for tick, label in zip(ticks, axes.get_yticklabels(), strict=True):
        if nodes[tick].malicious:
            label.set_color(MALICIOUS)
            label.set_fontweight("bold")
    known = any(node.partition is not None for node in nodes)
    axes.set_ylabel("Node (partition id)" if known else "Node id")
    _mark_malicious(axes, [row for row, node in enumerate(nodes) if node.malicious])


def _mark_malicious(axes: Axes, rows: Sequence[int]) -> None:
    """Draw a line above the malicious nodes, and a bar beside them."""
    if not rows:
        return
    first, last = rows[0] - 0.5, rows[-1] + 0.5
    axes.axhline(first, color=MALICIOUS, linewidth=1.2)
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False, "color": MALICIOUS}
    axes.plot([1.008, 1.008], [first + 0.08, last - 0.08], linewidth=2.5, solid_capstyle="butt", **beside)
    axes.text(1.016, (first + last) / 2, "malicious", rotation=270, va="center", ha="left", fontsize=8, **beside)


def _label_rounds(axes: Axes, rounds: Sequence[int]) -> None:
    places = MaxNLocator(nbins=12, integer=True, min_n_ticks=1).tick_values(rounds[0], rounds[-1])
    wanted = {int(place) for place in places} | {rounds[0]}
    ticks = [column for column, number in enumerate(rounds) if number in wanted]
    axes.set_xticks(ticks, [str(rounds[tick]) for tick in ticks], fontsize=8)
    axes.set_xlabel("Round")


def _mark_skipped(axes: Axes, run: RunFates) -> None:
    columns = [run.rounds.index(number) for number in run.skipped]
    if columns:
        above = offset_copy(axes.get_xaxis_transform(), axes.get_figure(root=True), y=4, units="points")
        axes.scatter(columns, [1.0] * len(columns), marker="v", s=18, color="0.35", transform=above, clip_on=False)
        axes.annotate("skipped", (1, 1), xycoords="axes fraction", xytext=(6, 4), textcoords="offset points",
                      fontsize=8, color="0.35", va="center")  # fmt: skip


def _title(run: RunFates, characters: int) -> str:
    chain = textwrap.fill(run.chain, characters, max_lines=3)
    rates = run.rates
    if rates.tpr is None and rates.fpr is None:
        return f"{run.name}\n{chain}"
    among = "" if run.has_weights else ", by quarantine alone"
    return (
        f"{run.name}\n{chain}\n"
        f"malicious updates caught {percent(rates.tpr)}, honest ones lost {percent(rates.fpr)}{among}"
    )
