"""Watching a session: a line for each run, and the end of its log where it ends early."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from simulations.config.run_config import RunConfig
from simulations.engine.progress import SessionError, watch
from simulations.engine.session import Session
from simulations.run.recorder import RunRecorder

NODES = 5


class EndedSession(Session):
    """A session whose process has ended."""

    status = 0

    def poll(self) -> int:
        return self.status


def ended(folder: Path, done: int, runs: int = 2) -> EndedSession:
    """Return a session of some runs, of which the first are done."""
    configs = [RunConfig(num_malicious=1, seed=seed, out_dir=str(folder)) for seed in range(runs)]
    for config in configs[:done]:
        recorder = RunRecorder(config, NODES)
        recorder.round(1, 0.25, 1.0)
        recorder.end()
    session = EndedSession(configs, NODES, folder / "session.log")
    session.log_path.write_text("much\nbefore\nCause: no data\n")
    return session


def test_each_run_has_a_line_where_there_is_no_terminal(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    results = watch(ended(tmp_path, done=2), ["one", "two"], console)
    assert [result.end["final_accuracy"] for result in results if result.end] == [0.25, 0.25]
    assert console.file.getvalue() == "one: 25.0%\ntwo: 25.0%\n"


@pytest.mark.parametrize(("status", "done"), [(1, 2), (0, 1)])
def test_a_session_that_ends_early_shows_the_end_of_its_log(tmp_path: Path, status: int, done: int) -> None:
    session = ended(tmp_path, done)
    session.status = status
    with pytest.raises(
        SessionError, match=rf"ended early with status {status};(.|\n)*session.log, says:(.|\n)*no data$"
    ):
        watch(session, ["one", "two"], Console(file=io.StringIO()))
