"""The report of the console command: pages for sweeps; a picture and a row in a table for each single run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flwr_robust.record.fate_plot import percent, plot_fates
from flwr_robust.record.fates import RunFates
from simulations.reports.spreadsheet import export
from simulations.run.fates import find_runs
from simulations.run.results import holds_results, reports_path
from simulations.sweep.folder import find_sweeps

SHOWN = 6  # quarantined nodes that the table names


def report(paths: Sequence[Path], out: Path | None, console: Console, *, csv: bool = False) -> list[str]:
    """Write the reports of sweeps, draw each single run, print a table of all runs; return a sentence for each failure.

    Parameters
    ----------
    paths : sequence of Path
        See `simulations.run.fates.find_runs`; folders may hold sweeps as well.
    out : Path, optional
        Folder of what is written; by default it goes beside the files.
    console : Console
        Where to write.
    csv : bool
        Whether the numbers of single runs are written as CSV too.

    Raises
    ------
    ReportError
        If a path holds neither a run nor a sweep.
    """
    sweeps = {path: find_sweeps(path) for path in paths if path.is_dir()}
    runs, left_out = find_runs(paths, [folder for folders in sweeps.values() for folder in folders])
    _say(console, "Left out", left_out, style="yellow")
    errors = [error for path, folders in sweeps.items() for error in _report_sweeps(path, folders, out, console)]
    if runs:
        _report_runs(runs, out, console)
    if csv:
        _export(runs, out, console)
    return errors


def _export(runs: Sequence[RunFates], out: Path | None, console: Console) -> None:
    """Write the reports of each file, which may hold several runs, as CSV."""
    names = {run.path: run.path.stem for run in runs}
    taken: set[Path] = set()
    for path, name in names.items():
        folder, number = out or path.parent, 1
        while folder / name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(folder / name)
        source = reports_path(path) if holds_results(path) else path
        _say(console, "CSV", map(str, export(source, name, folder)))


def _report_sweeps(path: Path, folders: list[Path], out: Path | None, console: Console) -> list[str]:
    if not folders:
        return []
    # Needs packages that a user who looks at a deployment's rounds need not have.
    from simulations.reports.write import PAGE, write_reports

    written = write_reports(folders, path, out)
    for folder, made in written.reports.items():
        _say(console, folder.resolve().name, made.problems, style="yellow")
        _say(console, "Report", [str(folder / PAGE)])
    if written.index is not None:
        _say(console, "Index", [str(written.index)])
    return written.errors


def _report_runs(runs: Sequence[RunFates], out: Path | None, console: Console) -> None:
    pictures = [plot_fates(run, path) for run, path in zip(runs, _picture_paths(runs, out), strict=True)]
    console.print(table(runs))
    if not all(run.has_weights for run in runs):
        console.print("* by quarantine alone: the rule chooses among values, not among updates", highlight=False)
    _say(console, "Picture", map(str, pictures))


def _say(console: Console, what: str, lines: Iterable[str], style: str | None = None) -> None:
    for line in lines:
        console.print(f"{what}: {line}", style=style, markup=False, highlight=False, soft_wrap=True)


def table(runs: Sequence[RunFates]) -> Table:
    """Return a row for each run."""
    made = Table(title="What became of the nodes")
    for heading in ("Run", "Chain"):
        made.add_column(heading, overflow="fold")
    for heading in ("Rounds", "Skipped", "Quarantined nodes", "Malicious caught (TPR)", "Honest lost (FPR)"):
        made.add_column(heading, justify="right")
    for run in runs:
        mark = "" if run.has_weights else " *"
        rates = run.rates
        made.add_row(
            run.name,
            run.chain,
            str(len(run.rounds)),
            str(len(run.skipped)),
            _named(run),
            *(percent(rate) + (mark if rate is not None else "") for rate in (rates.tpr, rates.fpr)),
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
