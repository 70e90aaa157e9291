"""What a sweep is asked for, and the cells that this makes."""

from __future__ import annotations

import re
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
class Options:
    """What ``flwr-robust sweep`` is asked for.

    Attributes
    ----------
    experiment : str
        A name or the path of a file.
    lite : bool
        Whether to do the small version.
    out : Path
        Gets the folder ``<experiment>`` or ``<experiment>-lite``.
    num_cpus, num_gpus : float
        Of each node.
    parallel : int or None
        Sessions side by side; None is as many as `simulations.sweep.shares.sensible_sessions` says.
    seeds : tuple of int
        Replace the experiment's; none leaves them.
    only : tuple of str
        ``axis=label`` words that cells must match.
    """

    experiment: str
    lite: bool = False
    out: Path = Path("results")
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    parallel: int | None = None
    seeds: tuple[int, ...] = ()
    only: tuple[str, ...] = ()


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


def make_plan(options: Options) -> Plan:
    """Read the experiment and check every cell.

    Raises
    ------
    ExperimentError
        With one sentence for each mistake.
    """
    experiment = load_experiment(options.experiment)
    if options.lite:
        if experiment.lite is None:
            raise ExperimentError(f"{experiment.path.name} has no [lite] section; leave --lite out, or add one.")
        experiment = experiment.lite
    if options.seeds:
        experiment = experiment.with_seeds(options.seeds)
    folder = (options.out / f"{experiment.name}{'-lite' if options.lite else ''}").expanduser().absolute()
    cells = build_cells(experiment, folder / "runs")
    return Plan(experiment, folder, cells, select(cells, options.only))


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
