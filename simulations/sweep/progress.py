"""What a sweep shows while it goes on: a bar of all cells, one of each that is running, a line for each done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from simulations.sweep.cells import Cell, describe
from simulations.sweep.record import Record

DAY = 86_400.0  # seconds; the time left follows from all rounds so far, as cells come fast and slow


class SweepProgress:
    """Bars on a terminal; elsewhere only the lines.

    Parameters
    ----------
    console : Console
        Where to write.
    chosen : sequence of Cell
        All cells that the sweep is about.
    waiting : sequence of Cell
        The first cell of each run that is still to be done.
    """

    def __init__(self, console: Console, chosen: Sequence[Cell], waiting: Sequence[Cell]) -> None:
        self._console = console
        self._cells = Counter(cell.fingerprint for cell in chosen)  # several may be the same run
        self._total = len(chosen)
        self._over = self._total - sum(self._cells[cell.fingerprint] for cell in waiting)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bars = Progress(
            *columns, console=console, disable=not console.is_terminal, transient=True, speed_estimate_period=DAY
        )
        rounds = sum(cell.config.num_rounds for cell in waiting)
        self._all = self._bars.add_task("Cells", start=False, total=rounds, count=self._count, left="")
        self._lanes: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        """Show the bars."""
        if self._over:
            self._console.print(f"{self._over} of {self._total} cells are done already.", highlight=False)
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bars away."""
        self._bars.stop()

    def show(self, lane: int, cell: Cell, rounds: int) -> None:
        """Show how far a lane's cell is."""
        total = cell.config.num_rounds
        if lane not in self._lanes:
            self._lanes[lane] = self._bars.add_task(cell.name, total=total, count="", left="")
        if rounds:
            self._bars.start_task(self._all)  # the time that a session takes to start says nothing of the rounds'
        self._advance(lane, rounds)
        self._bars.update(self._lanes[lane], completed=rounds, count=f"{rounds}/{total} rounds")

    def finished(self, lane: int, cell: Cell, record: Record) -> None:
        """Say what came of a lane's cell."""
        self._over += self._cells[cell.fingerprint]
        self._advance(lane, cell.config.num_rounds)
        if lane in self._lanes:
            self._bars.remove_task(self._lanes.pop(lane))
        what = f"failed: {record['error']}" if record["error"] else _best(record)
        left = "" if self._console.is_terminal or self._over == self._total else f" ({self._time_left})"
        line = f"[{self._over}/{self._total}] {describe(cell.labels)}: {what}{left}"
        # A style of its own: one given to print would colour the bars below as well.
        text = Text(line, style="red" if record["error"] else "")
        self._bars.console.print(text, highlight=False, soft_wrap=True)

    def _advance(self, lane: int, rounds: int) -> None:
        """Count the rounds that a lane has done since it was last shown."""
        before = self._bars.tasks[self._bars.task_ids.index(self._lanes[lane])].completed if lane in self._lanes else 0
        if rounds > before:
            self._bars.advance(self._all, rounds - before)
        self._bars.update(self._all, count=self._count, left=self._time_left)

    @property
    def _count(self) -> str:
        return f"{self._over}/{self._total} cells"

    @property
    def _time_left(self) -> str:
        """The time left in words, if rounds go on as fast as so far."""
        seconds = self._bars.tasks[0].time_remaining
        if seconds is None:
            return "time left unknown"
        if seconds < 90:
            return f"about {seconds:.0f} s left"
        return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


def _best(record: Record) -> str:
    best: Any = record["max_accuracy"]
    seconds = f"{record['wall_s']:.0f} s"
    return f"best accuracy {best:.1%}, {seconds}" if best is not None else f"done, {seconds}"
