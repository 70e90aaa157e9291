"""What became of the nodes of simulated runs, whose results say which nodes were malicious."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from flwr_robust.record import fates
from flwr_robust.record.fates import Node, ReportError, RunFates
from simulations.config.catalog import NO_ATTACK
from simulations.run.results import RunResult, holds_results, read_result, reports_path, results_of


def find_runs(paths: Iterable[Path], without: Collection[Path] = ()) -> tuple[list[RunFates], list[str]]:
    """Read runs from files or folders.

    Parameters
    ----------
    paths : iterable of Path
        Results of a run, a strategy's `report_path`, or folders of either.
    without : collection of Path
        Folders below them that are left out, those of sweeps. A folder that holds one may hold no run.

    Returns
    -------
    The runs; and a sentence for each file in a folder that holds no run.

    Raises
    ------
    ReportError
        If a path that is given does not exist or is no such file, or a folder holds none.
    """
    runs: list[RunFates] = []
    ignored: list[str] = []
    for path in paths:
        if not path.is_dir():
            runs += read_runs(path)
            continue
        before = len(runs)
        for file in _files_in(path, without):
            try:
                runs += read_runs(file)
            except ReportError as error:
                ignored.append(str(error))
        if len(runs) == before and not any(folder.is_relative_to(path) for folder in without):
            why = " ".join(["", *ignored])
            raise ReportError(
                f"{path} holds no runs: give a folder with results of runs, files of a report_path (*.jsonl) "
                f"or sweeps.{why}"
            )
    return runs, ignored


def read_runs(path: Path) -> list[RunFates]:
    """Read the runs of a file: the results or the reports of a simulated run, or any strategy's `report_path`.

    Raises
    ------
    ReportError
        If it does not exist, or holds neither results nor reports.
    """
    try:
        results = path if holds_results(path) else results_of(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {error}.") from error
    if results is None:
        return fates.read_runs(path)
    reports = reports_path(results)
    if not reports.exists():
        raise ReportError(f"{results} has no reports beside it: {reports} does not exist.")
    runs = fates.read_runs(reports, _known(read_result(results)))
    return [replace(run, name=results.stem, path=results) for run in runs]


def _files_in(folder: Path, without: Collection[Path]) -> Iterator[Path]:
    """Yield the JSON lines in and below a folder, but no reports beside their results."""
    for file in sorted(folder.rglob("*.jsonl")):
        if any(file.is_relative_to(other) for other in without):
            continue
        if file.parent == folder or results_of(file) is None:
            yield file


def _known(result: RunResult) -> dict[int, Node]:
    """Nodes by id; where nobody attacks all are honest."""
    malicious = [] if result.parameters.get("attack") == NO_ATTACK else result.malicious
    return {node: Node(node, partition, partition in malicious) for node, partition in result.partition_of.items()}
