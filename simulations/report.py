"""The report of the console command: a picture and a row in a table for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulations.fate_plot import percent, plot_fates
from simulations.fates import RunFates, find_runs

SHOWN = 6  # quarantined nodes that the table names


def report(paths: Sequence[Path], out: Path | None, console: Console) -> list[Path]:
    """Draw each run, print a table of all of them and return the pictures.

    Parameters
    ----------
    paths : sequence of Path
        See `simulations.fates.find_runs`.
    out : Path, optional
        Folder of the pictures; by default they go beside the files.
    console : Console
        Where to write.

    Raises
    ------
    ReportError
        If a path holds no run.
    """
    runs, passed_over = find_runs(paths)
    for why in passed_over:
        console.print(f"Passed over: {why}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    pictures = [plot_fates(run, path) for run, path in zip(runs, _picture_paths(runs, out), strict=True)]
    console.print(table(runs))
    if not all(run.tells_weights for run in runs):
        console.print("* by quarantine alone: the rule gives updates no weights", highlight=False)
    for picture in pictures:
        console.print(f"Picture: {picture}", markup=False, highlight=False, soft_wrap=True)
    return pictures


def table(runs: Sequence[RunFates]) -> Table:
    """Return a row for each run."""
    made = Table(title="What became of the nodes")
    for heading in ("Run", "Chain"):
        made.add_column(heading, overflow="fold")
    for heading in ("Rounds", "Skipped", "Quarantined nodes", "Malicious caught (TPR)", "Honest lost (FPR)"):
        made.add_column(heading, justify="right")
    for run in runs:
        mark = "" if run.tells_weights else " *"
        rates = run.rates
        made.add_row(
            run.name,
            run.chain,
            str(len(run.rounds)),
            str(len(run.skipped)),
            _named(run),
            *(percent(rate) + (mark if rate is not None else "") for rate in (rates.caught, rates.lost)),
        )
    return made


def _named(run: RunFates) -> str:
    labels = [node.label for node in run.quarantined]
    if not labels:
        return "0"
    more = ", …" if len(labels) > SHOWN else ""
    return f"{len(labels)} ({', '.join(labels[:SHOWN])}{more})"


def _picture_paths(runs: Sequence[RunFates], out: Path | None) -> list[Path]:
    """One path a run; runs of one name that go to one folder are numbered."""
    paths: list[Path] = []
    for run in runs:
        folder, number = out or run.path.parent, 1
        path = folder / f"{run.name}-nodes.png"
        while path in paths:
            number += 1
            path = folder / f"{run.name}-nodes-{number}.png"
        paths.append(path)
    return paths
