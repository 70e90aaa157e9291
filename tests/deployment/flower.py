"""A SuperLink, SuperNodes and ``flwr run`` for tests: on free ports, with a FLWR_HOME of their own, ended with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from simulations.engine.session import ray_address

BIN = Path(sys.executable).parent
START_TIMEOUT = 30.0


def flower_environment(home: Path) -> dict[str, str]:
    """Give Flower a home of its own, and the programs of this Python."""
    return {
        **os.environ,
        "RAY_ADDRESS": ray_address(),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def daemon(
    command: list[str], home: Path, name: str, port: int | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of Flower's programs in the background, from when it listens at its port, and end it.

    It leads a process group of its own, so that a test can kill it with all that it started.

    Raises
    ------
    AssertionError
        If it used, or was told to use, what Flower will remove.
    """
    log_path = home / f"{name}.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            env=flower_environment(home),
            cwd=cwd or home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        if port is not None:
            _wait_for_port(port, process, log_path)
        yield process
    finally:
        process.terminate()
        process.wait(30)
        with suppress(ProcessLookupError):  # a SuperNode that was turned away leaves its SuperExec behind
            os.killpg(process.pid, signal.SIGKILL)
    assert "DEPRECATED FEATURE" not in log_path.read_text()


@contextmanager
def superlink(home: Path, *, simulation: bool = False) -> Iterator[str]:
    """Run a SuperLink, make it Flower's default, and yield the address that SuperNodes connect to."""
    (port,) = free_ports(1)
    command = ["flower-superlink", "--insecure", "--isolation", "subprocess", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--disable-runtime-dependency-installation"]
    command += ["--simulation"] if simulation else []
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n\n[superlink.test]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    with daemon(command, home, "superlink", port):
        yield f"127.0.0.1:{port}"


@contextmanager
def supernodes(home: Path, address: str, count: int) -> Iterator[None]:
    """Run SuperNodes with the partitions 0 to ``count - 1``."""
    with ExitStack() as stack:
        for partition, port in enumerate(free_ports(count)):
            command = ["flower-supernode", "--insecure", "--superlink", address, "--host", "127.0.0.1"]
            command += ["--port", str(port), "--node-config", f"partition-id={partition} num-partitions={count}"]
            stack.enter_context(daemon(command, home, f"supernode-{partition}"))
        yield


def flwr_run(app: Path, home: Path, *options: str, timeout: float = 180.0) -> str:
    """Run an app, stream its log, and return all that was told.

    Raises
    ------
    AssertionError
        If ``flwr run`` fails.
    """
    finished = subprocess.run(
        [str(BIN / "flwr"), "run", ".", "--stream", *options],
        cwd=app,
        env=flower_environment(home),
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    logs = [path.read_text() for path in sorted(home.glob("*.log"))]
    told = "\n".join((finished.stdout, finished.stderr, *logs))
    assert finished.returncode == 0, told
    assert "DEPRECATED FEATURE" not in told
    return told


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{log_path.stem} did not start:\n{log_path.read_text()}")
