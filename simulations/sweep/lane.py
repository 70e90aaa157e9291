"""One session of a sweep: it does a cell at a time and is started again when it ends early."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from simulations.engine.session import OpenSession, Resources
from simulations.experiments.experiment import Experiment
from simulations.run.results import RunResult, last_line, read_result
from simulations.sweep.cells import Cell

# Sessions that end early one after another, without a cell that is done between them, before a sweep gives up.
MAX_EARLY_ENDS = 3


class SweepError(RuntimeError):
    """A sweep that cannot go on; the text says why, with the last lines of a session's log if there was one."""


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its results as far as they go, and why it failed if it did."""

    result: RunResult
    error: str | None = None


class Lane:
    """Cells one after another, in one session as long as it holds.

    `cell` is what is running, if anything is, and `rounds` how many of its rounds are over.
    """

    def __init__(self, experiment: Experiment, folder: Path, number: int, resources: Resources) -> None:
        assert experiment.num_supernodes is not None
        self.number = number
        self.cell: Cell | None = None
        self.rounds = 0
        self.log_path = folder / ("session.log" if number == 1 else f"session-{number}.log")
        self._num_supernodes = experiment.num_supernodes
        self._resources = resources
        self._session: OpenSession | None = None
        self._early_ends = 0
        self._log_tail = ""

    def __enter__(self) -> Self:
        """Begin a new log; the session starts with the first cell."""
        self.log_path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End the session."""
        self._end_session()

    def begin(self, cell: Cell) -> None:
        """Start a cell.

        Raises
        ------
        SweepError
            If sessions ended early several times in a row.
        """
        if self._early_ends >= MAX_EARLY_ENDS:
            raise SweepError(
                f"{self._early_ends} sessions in a row ended early; the end of {self.log_path} says:\n{self._log_tail}"
            )
        self.cell, self.rounds = cell, 0
        if self._session is None:
            self._session = OpenSession(self._num_supernodes, self.log_path, self._resources)
            self._session.__enter__()
        self._path = self._session.order(cell.config)

    def poll(self) -> Outcome | None:
        """Return what came of the cell, once it is known."""
        assert self.cell is not None
        assert self._session is not None
        status = self._session.poll()  # before reading: what is written before the end is then read
        last = last_line(self._path)
        self.rounds = last.get("round", self.rounds)
        over = last.get("type") in ("end", "error")
        if status is not None:
            self._early_ends += 1
            self._log_tail = self._session.log_tail()
            self._end_session()
            if not last:  # the cell has not begun: it is not what ended the session
                self.begin(self.cell)
                return None
        elif not over:
            return None
        result = read_result(self._path)
        error = result.error if over else f"the session ended with {_reason(status)}; see {self.log_path.name}."
        if error is None:
            self._early_ends = 0
        self.cell = None
        return Outcome(result, error)

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.__exit__()
            self._session = None


def _reason(status: int | None) -> str:
    return f"signal {signal.Signals(-status).name}" if status is not None and status < 0 else f"status {status}"
