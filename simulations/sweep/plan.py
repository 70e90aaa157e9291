"""The cells that a sweep is asked to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulations.experiments.experiment import Experiment, ExperimentError
from simulations.experiments.file import load_experiment
from simulations.sweep.cells import Cell, build_cells, select
from simulations.sweep.folder import CELLS
from simulations.sweep.store import read_records


@dataclass(frozen=True)
class Plan:
    """An experiment's cells and where they go.

    Attributes
    ----------
    experiment : Experiment
        The version that is done.
    folder : Path
        Of all that the sweep writes.
    cells : list of Cell
        All cells of the grid.
    chosen : list of Cell
        Those that are to be done.
    """

    experiment: Experiment
    folder: Path
    cells: list[Cell] = field(repr=False)
    chosen: list[Cell] = field(repr=False)


def make_plan(
    experiment: str, *, lite: bool = False, out: Path = Path("results"), seeds: str = "", only: Iterable[str] = ()
) -> Plan:
    """Read the experiment and check every cell.

    Parameters
    ----------
    experiment : str
        A name or the path of a file.
    lite : bool
        Whether to do the small version.
    out : Path
        Gets the folder ``<experiment>`` or ``<experiment>-lite``.
    seeds : str
        Replace the experiment's (see `parse_seeds`); none leaves them.
    only : iterable of str
        ``axis=label`` words that cells must match.

    Raises
    ------
    ExperimentError
        With one sentence for each mistake.
    """
    full = load_experiment(experiment)
    version = full.lite if lite else full
    if version is None:
        raise ExperimentError(f"{full.path.name} has no [lite] section; leave --lite out, or add one.")
    if seeds:
        version = version.with_seeds(parse_seeds(seeds))
    folder = (out / f"{full.name}{'-lite' if lite else ''}").expanduser().absolute()
    cells = build_cells(version, folder / "runs")
    return Plan(version, folder, cells, select(cells, only))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds as in ``1-5``, ``1,3`` or ``1-3,7``.

    Raises
    ------
    ExperimentError
        If the text is of another form.
    """
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        several = range(int(found[1]), int(found[2] or found[1]) + 1) if found else ()
        if not several:
            raise ExperimentError(f"--seeds {text!r} must be numbers as in 1-5 or 1,3.")
        seeds += several
    return tuple(dict.fromkeys(seeds))


def show_plan(plan: Plan, console: Console) -> None:
    """Show the chosen cells and what became of them so far."""
    records = {record["cell"]: record["status"] for record in read_records(plan.folder / CELLS)}
    table = Table(*plan.experiment.axes, "Rounds", "Nodes", "Status", title=plan.experiment.title, title_justify="left")
    for cell in plan.chosen:
        labels = [str(label) for label in cell.labels.values()]
        status = records.get(cell.fingerprint, "to do")
        table.add_row(*labels, str(cell.config.num_rounds), str(cell.num_nodes), status)
    console.print(table)
    done = sum(records.get(cell.fingerprint) == "done" for cell in plan.chosen)
    console.print(f"{len(plan.chosen)} of {len(plan.cells)} cells, {done} of them done: {plan.folder}", soft_wrap=True)
