"""Pictures of a bench: cost of each strategy, and how it grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulations.bench.cases import BYZFL, FLOWER
from simulations.bench.growth import NODES, Growth
from simulations.bench.report import Row, strategies
from simulations.bench.split import PARTS
from simulations.reports.figures.style import COLOURS, MARKERS

# The aims, as multiples of FedAvg: for most chains, and for mixing before sorting.
AIMS = (1.0, 1.5, 2.5)
# Where the axis of multiples ends: others that are slower still are written beside it.
LEAST_RANGE, LARGEST_RANGE = 3.0, 8.0
PEER_COLOUR = "#D55E00"
PEERS = {FLOWER: ("Flower", "D", PEER_COLOUR), BYZFL: ("ByzFL", "o", "white")}
PART_COLOURS = dict(zip(PARTS, ("#56B4E9", "#0072B2", "#CC79A7", "#009E73", "#E69F00", "0.75"), strict=True))


def plot_costs(found: Sequence[Row], path: Path, title: str) -> Path:
    """Draw our strategies' seconds as multiples of FedAvg's, split into parts, beside peers and limits."""
    ours = [row for row in strategies(found) if row.to_fedavg is not None]
    figure, axes = _figure((9.0, 1.5 + 0.27 * len(ours)))
    peers = [row for row in found if row.group in (FLOWER, BYZFL) and row.to_fedavg and row.name != "FedAvg"]
    end = min(max([LEAST_RANGE, *(1.1 * (row.to_fedavg or 0.0) for row in ours)]), LARGEST_RANGE)
    for aim in AIMS:
        axes.axvline(aim, color="0.3", linewidth=0.9 if aim == 1.0 else 0.7, linestyle="-" if aim == 1.0 else ":")
    for height, row in enumerate(ours):
        _bar(axes, height, row, end)
        _mark(axes, height, row, [peer for peer in peers if peer.rule == row.rule], end)
    axes.set_yticks(range(len(ours)), [row.name for row in ours])
    axes.set(xlim=(0, end), ylim=(len(ours) - 0.4, -0.6), title=title)
    axes.set_xlabel("Seconds as a multiple of Flower's FedAvg on the same messages")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    figure.legend(*_legend(axes), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return _save(figure, path)


def _bar(axes: Any, height: int, row: Row, end: float) -> None:
    """Draw a strategy's bar, cut into the shares of its parts."""
    assert row.to_fedavg is not None
    total, start = sum(row.parts.values()), 0.0
    for part, seconds in row.parts.items():
        width = row.to_fedavg * seconds / total
        axes.barh(height, width, left=start, height=0.7, color=PART_COLOURS[part], label=part)
        start += width
    if row.to_fedavg > end:
        axes.text(0.99 * end, height, f"{row.to_fedavg:.0f}x", ha="right", va="center", fontsize=8,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip


def _mark(axes: Any, height: int, row: Row, peers: Sequence[Row], end: float) -> None:
    """Mark a strategy's limit, and others' times for the same rule; those beyond the end are written there."""
    if row.to_fedavg and row.to_limit:
        limit = row.to_fedavg / row.to_limit
        axes.plot(limit, height, "|", color="black", markersize=11, mew=2, label="machine's limit")
    beyond = []
    for peer in sorted(peers, key=lambda peer: peer.to_fedavg or 0.0):
        name, marker, face = PEERS[peer.group]
        if peer.to_fedavg and peer.to_fedavg > end:
            beyond.append(f"{name} {peer.to_fedavg:.0f}x")
        else:
            axes.plot(peer.to_fedavg, height, marker, color=PEER_COLOUR, markerfacecolor=face, markersize=5, label=name)
    if beyond:
        axes.annotate(", ".join(beyond), (1, height), xycoords=("axes fraction", "data"), xytext=(4, 0),
                      textcoords="offset points", va="center", color=PEER_COLOUR, fontsize=7.5)  # fmt: skip


def plot_growth(found: Sequence[Growth], path: Path) -> Path:
    """Draw seconds against nodes and against parameters, with what theory says as dashed lines.

    Each dashed line has the slope of its chain's theory and lies on the largest size, where fixed costs matter least.
    """
    figure, both = _figure((11.0, 5.2), panels=2)
    for axes, variable, name in zip(both, ("n", "d"), ("Nodes n", "Parameters d"), strict=True):
        curves = [growth for growth in found if growth.variable == variable]
        for number, growth in enumerate(curves):
            if growth.sizes:
                _curve(axes, growth, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
        other = "d" if variable == "n" else "n"
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="Seconds", title=f"{other} = {curves[0].fixed:,}")
        axes.grid(alpha=0.25)
    last = max((growth.sizes[-1] for growth in found if growth.variable == "n" and growth.sizes), default=NODES[0])
    ticks = [n for n in NODES[::2] if n <= last]
    both[0].set_xticks(ticks, [str(n) for n in ticks])
    both[0].minorticks_off()
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9,
                  title="Measured, with the theory's slope dashed through the last point")  # fmt: skip
    return _save(figure, path)


def _curve(axes: Any, growth: Growth, colour: str, marker: str) -> None:
    """Draw what was measured, and the theory's slope through the last point."""
    label = f"{growth.chain}: {growth.theory}"
    axes.plot(growth.sizes, growth.seconds, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)
    axes.plot(growth.sizes, [growth.expected(size) for size in growth.sizes], "--", color=colour, linewidth=0.9)


def _figure(size: tuple[float, float], panels: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # no window system needed, and no global state left behind
    return figure, figure.subplots(1, panels)


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    """Return one entry for each label, in order of first use."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(reversed(labels), reversed(handles), strict=True))
    order = [*(part for part in PARTS if part in once), *(label for label in once if label not in PARTS)]
    return [once[label] for label in order], order


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
