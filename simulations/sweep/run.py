"""All cells of an experiment in one session of Flower's Ray engine, or in several side by side.

What was done is never done again: a sweep that was stopped or killed goes on where it was.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from simulations.engine.session import Resources
from simulations.sweep.cells import Cell, Plan, describe
from simulations.sweep.folder import CELLS, EXPERIMENT
from simulations.sweep.lane import Lane, SweepError
from simulations.sweep.progress import SweepProgress
from simulations.sweep.record import Record, make_record
from simulations.sweep.shares import joins_cluster, sensible_sessions, share_out
from simulations.sweep.store import CellStore, read_records
from simulations.wording import count

POLL_INTERVAL = 0.25


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


def run_sweep(plan: Plan, nodes: Resources, parallel: int | None, console: Console) -> list[Record]:
    """Do the chosen cells that are not done, in sessions side by side, and return those that failed.

    Without a number of sessions, there are as many as suit the machine.

    Raises
    ------
    StoreError
        If another sweep has the folder.
    SweepError
        If sessions end early again and again, or several are wanted on one Ray cluster.
    """
    with CellStore(plan.folder, plan.cells) as store:
        if store.num_superseded:
            lines = count(store.num_superseded, "line")
            console.print(f"{lines} of cells with other parameters moved to superseded.jsonl.", highlight=False)
        shutil.copyfile(plan.experiment.path, plan.folder / EXPERIMENT)
        waiting = _to_do(plan, store)
        with SweepProgress(console, plan.chosen, waiting) as progress:
            return _do(plan, waiting, _lanes(plan, len(waiting), nodes, parallel), store, progress)


def _to_do(plan: Plan, store: CellStore) -> list[Cell]:
    """Return the first cell of each run that is not done, those that failed last: they may fail again."""
    runs: dict[str, Cell] = {}
    for cell in plan.chosen:
        if store.status.get(cell.fingerprint) != "done":
            runs.setdefault(cell.fingerprint, cell)
    return sorted(runs.values(), key=lambda cell: cell.fingerprint in store.status)


def _lanes(plan: Plan, num_cells: int, nodes: Resources, parallel: int | None) -> list[Lane]:
    wanted = parallel or sensible_sessions(nodes)
    if wanted > 1 and joins_cluster():
        raise SweepError(
            f"--parallel {wanted} was given with RAY_ADDRESS={os.environ['RAY_ADDRESS']}, and on a Ray cluster that is "
            "there already one session takes all nodes: leave --parallel out, or unset RAY_ADDRESS."
        )
    shares = share_out(nodes, max(1, min(wanted, num_cells)))
    return [Lane(plan.experiment, plan.folder, number, share) for number, share in enumerate(shares, start=1)]


def _do(
    plan: Plan, cells: Iterable[Cell], lanes: Sequence[Lane], store: CellStore, progress: SweepProgress
) -> list[Record]:
    """Give each lane the next cell whenever it has none, until there are no more."""
    waiting, failed = deque(cells), []
    with ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(lane)
        while waiting or any(lane.cell for lane in lanes):
            for lane in lanes:
                if lane.cell is None and waiting:
                    lane.begin(waiting.popleft())
                elif lane.cell is not None:
                    cell, outcome = lane.cell, lane.poll()
                    progress.show(lane.number, cell, lane.rounds)
                    if outcome is None:
                        continue
                    record = make_record(plan.experiment, cell, outcome.result, outcome.error)
                    store.add(record)
                    progress.finished(lane.number, cell, record)
                    failed += [record] if outcome.error else []
            time.sleep(POLL_INTERVAL)
    return failed


def show_outcome(plan: Plan, failed: Sequence[Record], console: Console) -> None:
    """Say where the results are and which cells failed."""
    fingerprints = {record["cell"] for record in failed}
    done = sum(cell.fingerprint not in fingerprints for cell in plan.chosen)
    console.print(f"{done} of {len(plan.chosen)} cells are done: {plan.folder / CELLS}", soft_wrap=True)
    for record in failed:
        console.print(
            f"Failed: {describe(record['labels'])}: {record['error']}", style="red", markup=False, soft_wrap=True
        )
    if failed:
        console.print("The same command tries them again.")
