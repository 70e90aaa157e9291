"""Watch a session's result files grow."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from simulations.engine.session import Session
from simulations.run.results import RunResult, read_result

POLL_INTERVAL = 0.25


class SessionError(RuntimeError):
    """A session that ended before its runs did; the text ends with the last lines of its log."""


def watch(session: Session, names: Sequence[str], console: Console) -> list[RunResult]:
    """Draw a bar for each run until the session ends, and return the results.

    Without a terminal, one line is printed as each run ends.

    Raises
    ------
    SessionError
        If the session ended early.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeElapsedColumn(),
    )
    done: set[int] = set()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = [
            progress.add_task(name, total=config.num_rounds, start=False, accuracy="waiting")
            for name, config in zip(names, session.configs, strict=True)
        ]
        while True:
            status = session.poll()  # before reading: what is written before the end is then read
            results = [read_result(path) for path in session.result_paths]
            for number, result in enumerate(results):
                _show(progress, tasks[number], result)
                if result.end and number not in done:
                    done.add(number)
                    if not console.is_terminal:
                        console.print(f"{names[number]}: {result.end['final_accuracy']:.1%}")
            if status is not None:
                break
            time.sleep(POLL_INTERVAL)
    if status != 0 or len(done) < len(results):
        raise SessionError(
            f"the simulation ended early with status {status}; the end of its log, "
            f"{session.log_path}, says:\n{session.log_tail()}"
        )
    return results


def _show(progress: Progress, task: TaskID, result: RunResult) -> None:
    if not result.rounds:
        return
    _, accuracies = result.curve
    if not progress.tasks[task].started:
        progress.start_task(task)
    latest = f"{accuracies[-1]:.1%}" if accuracies else ""
    progress.update(task, completed=result.rounds[-1]["round"], accuracy=latest)
    if result.end:
        progress.stop_task(task)
