"""Pictures of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

# Okabe and Ito's palette: told apart with any colour vision. Line styles repeat the distinction in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MARKED_POINTS = 8

Curve = tuple[Sequence[float], Sequence[float]]


def plot_accuracy(curves: Mapping[str, Curve], path: Path, title: str, chance: float | None = None) -> Path:
    """Draw test accuracy by round.

    Parameters
    ----------
    curves : mapping
        Rounds and accuracies (0 to 1) under the name that each line gets.
    path : Path
        The picture's file; its ending chooses the format.
    title : str
        Above the picture.
    chance : float, optional
        The accuracy of a guess, drawn as a thin line.

    Returns
    -------
    Path
        The file that was written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # no window system needed, and no global state left behind
    axes = figure.add_subplot()
    if chance is not None:
        axes.axhline(100 * chance, color="0.6", linewidth=0.8)
        axes.annotate("guessing", (1, 100 * chance), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      xytext=(-4, 2), textcoords="offset points", color="0.4", fontsize=8)  # fmt: skip
    for number, (name, (rounds, accuracies)) in enumerate(curves.items()):
        axes.plot(
            rounds,
            [100 * accuracy for accuracy in accuracies],
            label=name,
            color=COLOURS[number % len(COLOURS)],
            linestyle=STYLES[number % len(STYLES)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=max(1, len(rounds) // MARKED_POINTS),
            markersize=5,
            linewidth=1.8,
        )
    axes.set(xlabel="Round", ylabel="Test accuracy (%)", ylim=(0, 100), title=title)
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
