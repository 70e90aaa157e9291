"""The child process of a session: it does the runs that its standard input asks for, on Flower's Ray engine."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from queue import Queue
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from flwr.superlink.grid import InMemoryGrid

from simulations.config.run_config import RunConfig
from simulations.engine.session import NO_MORE
from simulations.node.client import app as client_app
from simulations.run.runner import run_all

# Seconds between two pulls of replies. Flower's 0.1 is as long as a round of a small model takes.
PULL_INTERVAL = 0.01


def main() -> None:
    """Do the runs that standard input describes, one a line after a line about the session."""
    messages: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    settings = messages.get()
    quiet(settings["log_level"])
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        if isinstance(grid, InMemoryGrid):
            grid.pull_interval = PULL_INTERVAL
        run_all(grid, _ordered(messages), settings["num_supernodes"])

    init_args: dict[str, Any] = {"include_dashboard": False}
    if settings["session_cpus"] is not None:
        init_args["num_cpus"] = settings["session_cpus"]
    try:
        run_simulation(
            server_app,
            client_app,
            settings["num_supernodes"],
            backend_config={
                "client_resources": {"num_cpus": settings["num_cpus"], "num_gpus": settings["num_gpus"]},
                "init_args": init_args,
            },
        )
    except Exception as error:
        traceback.print_exc()
        print(f"Cause: {_cause(error)}", file=sys.stderr, flush=True)  # last, because the log's end is what is shown
        # The server's thread may wait for replies that nobody is left to send, and would keep this process.
        os._exit(1)


def _cause(error: BaseException) -> BaseException:
    """Return what began a chain of exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def quiet(log_level: str) -> None:
    """Keep Flower's log to what is news."""
    logging.getLogger("flwr").setLevel(log_level)
    logging.getLogger("flwr").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Keep all of Flower's log but its advice to call `flwr run` in place of `run_simulation`.

    That one would hand the runs to a SuperLink: a process more for each session, which takes no orders from standard
    input and does not end with us. Other deprecations stay, and our tests take them for errors.
    """
    return "The `run_simulation` function is deprecated" not in record.getMessage()


def _ordered(messages: Queue[dict[str, Any]]) -> Iterator[RunConfig]:
    """Yield the runs that are asked for, as they come."""
    while (message := messages.get()) != NO_MORE:
        config = RunConfig.from_run_config(message)
        print(f"Run: {config.run_name()}", flush=True)
        yield config


def _read(messages: Queue[dict[str, Any]]) -> None:
    """Hand on the lines of standard input; when it ends, the parent has died or wants no more: end all."""
    # Without a buffer, whose lock would hold up the interpreter's end while this thread waits for a line.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            messages.put(json.loads(line))
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
