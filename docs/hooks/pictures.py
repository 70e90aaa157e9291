"""Pictures of what rules, pre-aggregations and attacks do to the toy cloud: the project's own code draws them."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
import toy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clients.attacks import Attack
from flwr_robust.engine.choose import updates_for
from flwr_robust.engine.passes import measure
from flwr_robust.engine.rows import Geometry
from flwr_robust.rules import PreAggregation, Rule, Trace
from flwr_robust.rules.run import plan, run
from simulations.reports.figures.style import COLOURS

HONEST, HOSTILE, RESULT = COLOURS[0], COLOURS[1], COLOURS[2]
GREY = "#808080"  # to be read on white and on near-black pages
STYLE: dict[Any, Any] = {"svg.hashsalt": "flwr-robust", "font.size": 10, "text.color": GREY, "legend.labelcolor": GREY}

Matrix = NDArray[np.floating[Any]]


class Picture:
    """A plane with a cross at zero, from which norms are measured, and a legend below."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(3.8, 3.8), layout="constrained", facecolor="none")
        self.axes: Axes = self.figure.add_subplot()
        self.axes.set_aspect("equal", adjustable="datalim")
        self.axes.axhline(0, color=GREY, linewidth=0.6, alpha=0.6)
        self.axes.axvline(0, color=GREY, linewidth=0.6, alpha=0.6)
        self.axes.annotate("0", (0, 0), xytext=(3, 3), textcoords="offset points")
        self.axes.set_axis_off()

    def points(self, rows: Matrix, label: str, colour: str, marker: str, size: float = 42, **style: Any) -> None:
        """Draw rows; with ``hollow=True`` their outlines alone."""
        face = "none" if style.pop("hollow", False) else colour
        x, y = rows.T
        self.axes.scatter(x, y, s=size, marker=marker, facecolor=face, edgecolor=colour, label=label, **style)

    def cloud(
        self, rows: Matrix, counts: Sequence[bool] | None = None, alpha: float = 1.0, others: str = "outlier"
    ) -> None:
        """Draw the honest rows and the others; those that do not count as outlines."""
        kept = np.ones(len(rows), dtype=bool) if counts is None else np.asarray(counts)
        honest = np.arange(len(rows)) < len(toy.HONEST)
        for mine, label, colour, marker in ((honest, "honest", HONEST, "o"), (~honest, others, HOSTILE, "^")):
            shown = rows[mine & kept]
            self.points(shown, label if len(shown) else "", colour, marker, alpha=alpha, linewidth=0)
            self.points(rows[mine & ~kept], f"{label}, left out", colour, marker, hollow=True, alpha=alpha)

    def means(self, rows: Matrix, label: str = "mean of all") -> None:
        """Draw the mean of the honest rows, which is wanted, and the mean of all."""
        self.points(toy.HONEST.mean(axis=0)[None], "mean of honest", GREY, "o", 150, hollow=True, linewidth=1.5)
        self.points(rows.mean(axis=0)[None], label, GREY, "X", 80, linewidth=0)

    def arrows(self, starts: Matrix, ends: Matrix, colours: Sequence[str]) -> None:
        """Draw an arrow from each row to another."""
        for start, end, colour in zip(starts, ends, colours, strict=True):
            style = {"arrowstyle": "-|>", "color": colour, "alpha": 0.55, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 2}
            self.axes.annotate("", end, start, arrowprops=style)

    def circle(self, radius: float) -> None:
        """Draw a circle around zero: the norm that rows were clipped to."""
        angles = np.linspace(0, 2 * np.pi, 200)
        x, y = radius * np.cos(angles), radius * np.sin(angles)
        self.axes.plot(x, y, label="clipping norm", color=GREY, linestyle="--", linewidth=1)

    def svg(self) -> str:
        """Return the picture as SVG text, the same in each build."""
        handles, labels = self.axes.get_legend_handles_labels()
        legend = {label: handle for handle, label in zip(handles, labels, strict=True) if _has_data(handle)}
        self.figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=2, frameon=False,
                           columnspacing=1.2, handletextpad=0.3)  # fmt: skip
        text = StringIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return text.getvalue()


def _has_data(handle: Any) -> bool:
    return len(handle.get_offsets()) > 0 if hasattr(handle, "get_offsets") else True


def draw_rule(rule: Rule) -> tuple[str, str]:
    """Return the picture of a rule's output, and a line with its numbers."""
    outcome = run(rule, updates_for(toy.CLOUD, toy.LAYERS), side=toy.SIDE)
    shares = outcome.weights if outcome.weights is not None else outcome.used
    with matplotlib.rc_context(STYLE):
        picture = Picture()
        picture.cloud(toy.CLOUD, None if shares is None else (shares > 0).tolist())
        picture.means(toy.CLOUD)
        picture.points(outcome.vector[None], type(rule).__name__, RESULT, "*", 230, linewidth=0, zorder=3)
        svg = picture.svg()
    first = ", in its first call" if rule.state() else ""
    drawn = "".join(f" Drawn here: `{what}`." for what in outcome.trace.drawn)
    return svg, f"{_errors(toy.CLOUD.mean(axis=0), repr(rule), outcome.vector)}{first}.{drawn}"


def draw_pre_aggregation(stage: PreAggregation) -> tuple[str, str]:
    """Return the picture of where a pre-aggregation takes each row, and a line with its numbers."""
    updates, trace = updates_for(toy.CLOUD), Trace()
    geometry = Geometry.of(measure(updates, stage.needs))
    mixing = plan((stage,), geometry, updates.n, trace).mixing
    rows = mixing @ toy.CLOUD
    # A row moves; where fewer come out, those that a new row is made of move together.
    to, start = (np.arange(len(rows)),) * 2 if len(rows) == len(toy.CLOUD) else np.nonzero(mixing)
    colours = [HONEST if row < len(toy.HONEST) else HOSTILE for row in start]
    with matplotlib.rc_context(STYLE):
        picture = Picture()
        picture.cloud(toy.CLOUD, alpha=0.5)
        picture.arrows(toy.CLOUD[start], rows[to], colours)
        if trace.threshold is not None:
            picture.circle(trace.threshold)
        picture.points(rows, f"after {type(stage).__name__}", RESULT, "o", 34, linewidth=0, zorder=3)
        picture.means(rows, "mean after it")
        svg = picture.svg()
    return svg, f"{_errors(toy.CLOUD.mean(axis=0), f'the mean behind {stage!r}', rows.mean(axis=0))}."


def draw_attack(kind: type[Attack]) -> tuple[str, str] | None:
    """Return the picture of what attackers of this kind send; None where that cannot be drawn."""
    if not kind.makes_updates:
        return None
    attack = toy.make(kind)
    sent = attack(toy.HONEST, toy.F, toy.DEFENCE, own=toy.OWN)
    if not np.isfinite(sent).all():
        return None
    rows = np.concatenate([toy.HONEST, sent])
    with matplotlib.rc_context(STYLE):
        picture = Picture()
        picture.cloud(rows, others="malicious")
        picture.means(rows)
        picture.points(toy.DEFENCE(rows)[None], "trimmed mean", RESULT, "*", 230, linewidth=0, zorder=3)
        svg = picture.svg()
    return svg, f"`{attack!r}`. {_errors(rows.mean(axis=0), repr(toy.DEFENCE), toy.DEFENCE(rows))}."


def _errors(mean: Matrix, name: str, result: Matrix) -> str:
    wanted = toy.HONEST.mean(axis=0)
    before, after = (float(np.linalg.norm(point - wanted)) for point in (mean, result))
    return f"Distance to the honest mean: the mean of all {before:.2f}, {name} {after:.2f}"
