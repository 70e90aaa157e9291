"""What a sweep shows while it goes on: a bar of all cells, one of each that is being done, a line for each done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from simulations.sweep.cells import Cell, describe
from simulations.sweep.record import Record


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
        self._estimate = Estimate(sum(cell.config.num_rounds for cell in waiting))
        self._rounds: dict[int, int] = {}  # of the cell that each lane does
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._all = self._bars.add_task("Cells", total=self._total, completed=self._over, count=self._count, left="")
        self._lanes: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        """Show the bars."""
        if self._over:
            self._console.print(f"{self._over} of {self._total} cells are done already.", highlight=False)
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self._bars.stop()

    def show(self, lane: int, cell: Cell, rounds: int) -> None:
        """Show how far a lane's cell is."""
        if rounds and not self._rounds.get(lane):
            self._estimate.start()
        self._estimate.advance(rounds - self._rounds.get(lane, 0))
        self._rounds[lane] = rounds
        total = cell.config.num_rounds
        if lane not in self._lanes:
            self._lanes[lane] = self._bars.add_task("", total=total, count="", left="")
        shown: dict[str, Any] = {"description": cell.name, "total": total, "completed": rounds}
        self._bars.update(self._lanes[lane], **shown, count=f"{rounds}/{total} rounds")
        self._bars.update(self._all, left=self._estimate.text)

    def finished(self, lane: int, cell: Cell, record: Record) -> None:
        """Tell what came of a lane's cell."""
        self._over += self._cells[cell.fingerprint]
        self._estimate.advance(cell.config.num_rounds - self._rounds.pop(lane, 0))
        self._bars.update(self._all, completed=self._over, count=self._count)
        if lane in self._lanes:
            self._bars.remove_task(self._lanes.pop(lane))
        what = f"failed: {record['error']}" if record["error"] else _best(record)
        left = "" if self._console.is_terminal or self._over == self._total else f" ({self._estimate.text})"
        line = f"[{self._over}/{self._total}] {describe(cell.labels)}: {what}{left}"
        # A style of its own: one given to print would colour the bars below as well.
        text = Text(line, style="red" if record["error"] else "")
        self._bars.console.print(text, highlight=False, soft_wrap=True)

    @property
    def _count(self) -> str:
        return f"{self._over}/{self._total} cells"


class Estimate:
    """How long the rest takes, if rounds go on as fast as so far.

    Parameters
    ----------
    rounds : int
        Rounds to be done.
    """

    def __init__(self, rounds: int) -> None:
        self._left = rounds
        self._done = 0
        self._started: float | None = None

    def start(self) -> None:
        """Begin to measure: the time that a session takes to start says nothing of the rounds'."""
        if self._started is None:
            self._started = time.monotonic()

    def advance(self, rounds: int) -> None:
        """Count rounds that are over."""
        self._left -= rounds
        self._done += rounds

    @property
    def text(self) -> str:
        """The time left, in words."""
        if self._started is None or not self._done:
            return "time left unknown"
        seconds = (time.monotonic() - self._started) / self._done * max(self._left, 0)
        minutes, hours = round(seconds / 60), seconds / 3600
        return (
            f"about {seconds:.0f} s left"
            if seconds < 90
            else (f"about {minutes} min left" if minutes < 90 else f"about {hours:.1f} h left")
        )


def _best(record: Record) -> str:
    best = record["max_accuracy"]
    seconds = f"{record['wall_s']:.0f} s"
    return f"best accuracy {best:.1%}, {seconds}" if best is not None else f"done, {seconds}"
