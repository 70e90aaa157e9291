"""Several runs in one session of Flower's Ray engine, in a process of their own.

The child process keeps Flower's and Ray's logs out of the terminal and is ended as a whole: nothing of
it stays behind, not even when this process is killed, because the child ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from simulations.config.catalog import DATA_DIR_VARIABLE
from simulations.config.run_config import RunConfig
from simulations.run.recorder import result_path

ROOT = Path(__file__).resolve().parents[2]  # of our packages
STOP_TIMEOUT = 15.0
LOCAL = "local"  # Ray's word for a cluster of the session's own
NO_MORE: dict[str, Any] = {}  # the order that ends a session


@dataclass(frozen=True)
class Resources:
    """What each simulated node gets: Ray runs as many nodes at once as fit the session's part of the machine."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    session_cpus: int | None = None
    """The cores of the whole session; None is all, and the only choice on a cluster that is there already."""
    devices: tuple[str, ...] | None = None
    """The GPUs of the whole session, as in ``CUDA_VISIBLE_DEVICES``; None is all."""


class Child:
    """A process that runs simulations in the background, fed by lines of JSON.

    Parameters
    ----------
    module : str
        What it runs.
    log_path : Path
        Where Flower's and Ray's output goes, after what is there already.
    resources : Resources
        Of each node and of the session.
    """

    def __init__(self, module: str, log_path: Path, resources: Resources | None = None) -> None:
        self.module = module
        self.log_path = log_path
        self.resources = resources or Resources()

    def __enter__(self) -> Self:
        """Start the child."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, "-P", "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_child_environment(self.resources),
                cwd=ROOT,  # Ray lets its workers import from here before anything else
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the child
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End the child and all that it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def poll(self) -> int | None:
        """Return the child's exit status, or None while it works."""
        return self._process.poll()

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def send(self, message: dict[str, Any]) -> None:
        """Hand the child a message."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the child has ended, as `poll` says
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()


class OpenSession(Child):
    """A child process that does runs in the order in which they are asked for.

    Parameters
    ----------
    num_supernodes : int
        Simulated nodes.
    log_path : Path
        Where Flower's and Ray's output goes, after what is there already.
    resources : Resources
        Of each node and of the session.
    """

    log_level = "WARNING"  # of Flower's log, in which a round takes a kilobyte otherwise

    def __init__(self, num_supernodes: int, log_path: Path, resources: Resources | None = None) -> None:
        super().__init__("simulations.engine.child", log_path, resources)
        self.num_supernodes = num_supernodes

    def __enter__(self) -> Self:
        """Start the child."""
        super().__enter__()
        settings = {"num_supernodes": self.num_supernodes, "log_level": self.log_level}
        self.send(settings | asdict(self.resources))
        return self

    def order(self, config: RunConfig) -> Path:
        """Ask for a run, and return where its results will be."""
        config = _from_here(config)
        path = self.path_of(config)
        path.unlink(missing_ok=True)  # lines of an earlier run would look like progress
        self.send(config.to_run_config())
        return path

    def path_of(self, config: RunConfig) -> Path:
        """Return where a run's results go."""
        return result_path(config, config.participants(self.num_supernodes))

    def finish(self) -> None:
        """Let the child end once it has done what it was asked for."""
        self.send(NO_MORE)


class Session(OpenSession):
    """A child process that does the given runs in order, and ends."""

    log_level = "INFO"

    def __init__(
        self,
        configs: Sequence[RunConfig],
        num_supernodes: int,
        log_path: Path,
        resources: Resources | None = None,
    ) -> None:
        super().__init__(num_supernodes, log_path, resources)
        self.configs = [_from_here(config) for config in configs]

    @property
    def result_paths(self) -> list[Path]:
        """Where each run's results go."""
        return [self.path_of(config) for config in self.configs]

    def __enter__(self) -> Self:
        """Start the child and ask for all runs."""
        self.log_path.unlink(missing_ok=True)
        super().__enter__()
        for config in self.configs:
            self.order(config)
        self.finish()
        return self


def _from_here(config: RunConfig) -> RunConfig:
    """Make folders absolute: the child works elsewhere, and relative ones are meant from here."""
    folders = {"out_dir": config.out_dir, "data_dir": config.data_dir}
    return config.replace(**{name: _absolute(folder) for name, folder in folders.items() if folder})


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().absolute())


def ray_address() -> str:
    """Return the Ray cluster that sessions join, or `LOCAL`: then each starts one of its own.

    Without an address, Ray joins what it takes for a running cluster, be it one that was killed long ago.
    """
    return os.environ.get("RAY_ADDRESS") or LOCAL


def _child_environment(resources: Resources) -> dict[str, str]:
    """Let the child and its nodes import our packages first, then what this process can; let waiting threads sleep."""
    path = os.pathsep.join(dict.fromkeys([str(ROOT), *map(os.path.abspath, sys.path)]))
    defaults = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        # torch's threads otherwise spin while they wait for each other, and where anything else wants one of their
        # cores, half a second of the server's measuring became ten.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    environment = {**defaults, **os.environ, "PYTHONPATH": path}
    environment["RAY_ADDRESS"] = ray_address()
    if os.environ.get(DATA_DIR_VARIABLE):
        environment[DATA_DIR_VARIABLE] = _absolute(os.environ[DATA_DIR_VARIABLE])
    if resources.devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(resources.devices)
    return environment
