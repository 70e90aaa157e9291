"""The page ``docs/deploy.md``, command by command: simulated, as real processes, and with TLS and known nodes."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flwr_robust.record.report import RoundReport, read_reports
from tests.deployment.flower import START_TIMEOUT, daemon, flower_environment, free_ports, superlink
from tests.deployment.recipe import ROOT, Recipe

HONEST, LIARS, LATE = range(3), (3, 4), 5  # partitions
PATIENCE = 300.0  # seconds that a busy machine gets for what takes seconds on a free one
GOOD_ACCURACY = 0.85


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    reports: list[RoundReport]
    ids: dict[int, int]  # node id of each partition
    model: dict[str, np.ndarray]
    told: str
    unused: list[str]

    @property
    def accuracy(self) -> float:
        images, labels = load_digits(return_X_y=True)
        scores = images / 16 @ self.model["weight"] + self.model["bias"]
        return float(np.mean(scores.argmax(axis=1) == labels))

    def weights(self, partition: int) -> list[float | None]:
        """Return the node's weight in each round in which its reply reached the rule."""
        nodes = (report.nodes.get(self.ids[partition]) for report in self.reports)
        return [node.weight for node in nodes if node is not None and node.accepted]


class Federation:
    """The processes of one section of the page."""

    def __init__(self, home: Path, recipe: Recipe, ports: dict[int, int], stack: ExitStack) -> None:
        self.home, self.recipe, self._ports, self._stack = home, recipe, ports, stack
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start_superlink(self) -> None:
        command = shlex.split(self.recipe.command("flower-superlink"))
        self._stack.enter_context(daemon(command, self.home, "superlink", self._ports[8000]))

    def start_node(self, partition: int, has: str = "partition-id=0") -> None:
        command = shlex.split(self.recipe.command("flower-supernode", has, node=partition))
        self._nodes[partition] = self._stack.enter_context(daemon(command, self.home, f"supernode-{partition}"))

    def start_run(self) -> subprocess.Popen[bytes]:
        """Start ``flwr run``, which goes on while the test kills and starts nodes."""
        command = ["bash", "-c", self.recipe.command("flwr run")]
        log = self._stack.enter_context((self.home / "run.log").open("w"))
        run = subprocess.Popen(command, cwd=self.home, env=flower_environment(self.home), stdout=log, stderr=log)
        self._stack.callback(run.kill)
        return run

    def kill_node(self, partition: int) -> None:
        """End the node and its ClientApp without a farewell, as if the machine had lost power."""
        os.killpg(self._nodes[partition].pid, signal.SIGKILL)

    def log(self, partition: int) -> str:
        return (self.home / f"supernode-{partition}.log").read_text()

    def messages(self, partition: int) -> int:
        """Return how many train messages have reached the node."""
        return self.log(partition).count("Receiving: train message")

    def rounds(self) -> list[RoundReport]:
        path = self.home / "results" / "report.jsonl"
        return list(read_reports(path)) if path.exists() else []

    def outcome(self, told: str, partitions: Iterable[int]) -> Outcome:
        ids = {node: int(self.log(node).split("SuperNode ID: ")[1].split()[0]) for node in partitions}
        with np.load(self.home / "results" / "model.npz") as model:
            return Outcome(self.rounds(), ids, dict(model), told, self.recipe.unused)


@contextmanager
def federation(section: str, home: Path) -> Iterator[Federation]:
    """Prepare a folder that holds ``examples/``, and free ports for all that the page starts."""
    shutil.copytree(ROOT / "examples" / "deployment", home / "examples" / "deployment")
    page_ports = [8000, *range(9100, 9106)]
    ports = dict(zip(page_ports, free_ports(len(page_ports)), strict=True))
    replace = {
        "superlink.example.org:8000": "127.0.0.1:8000",
        "0.0.0.0": "127.0.0.1",
        "/home/you/federation": str(home),
        "127.0.0.1:8000": f"127.0.0.1:{ports[8000]}",
    } | {f"--port {port}": f"--port {own}" for port, own in ports.items()}
    recipe = Recipe(section, home, replace)
    (home / "config.toml").write_text(recipe.toml())
    with ExitStack() as stack:
        yield Federation(home, recipe, ports, stack)


def wait_until(condition: Callable[[], bool], what: str, home: Path, timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text() for path in sorted(home.glob("*.log")))
            raise AssertionError(f"{what} did not happen in {timeout:.0f} s:\n{logs}")
        time.sleep(0.05)


# ------------------------------------------------------------------------------ on a laptop


def test_the_app_runs_simulated(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "deployment", tmp_path / "examples" / "deployment")
    with superlink(tmp_path, simulation=True) as address:
        (tmp_path / "config.toml").write_text(f'[superlink.local]\naddress = "{address}"\ninsecure = true\n')
        recipe = Recipe("On your laptop", tmp_path, {})
        told = recipe.run("flwr run", timeout=PATIENCE)
    assert "[ROUND 4/4]" in told
    assert recipe.unused == []


# ------------------------------------------------------------------------------ real processes; one dies, one is late


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    home = tmp_path_factory.mktemp("one-machine")
    with federation("Real processes on one machine", home) as nodes:
        nodes.start_superlink()
        for partition in HONEST:
            nodes.start_node(partition)
        for partition in LIARS:
            nodes.start_node(partition, has=f"partition-id={partition}")
        run = nodes.start_run()
        wait_until(lambda: nodes.messages(0) > 0, "the first round", home)
        nodes.start_node(LATE)
        wait_until(lambda: any(len(report.nodes) == 6 for report in nodes.rounds()), "a round of six nodes", home)
        wait_until(lambda: nodes.messages(0) > len(nodes.rounds()), "the next message", home)
        nodes.kill_node(0)  # which has its message, and has not answered
        assert run.wait(2 * PATIENCE) == 0, (home / "run.log").read_text()
        assert "DEPRECATED FEATURE" not in (home / "run.log").read_text()
        told = nodes.recipe.run("flwr supernode list") + nodes.recipe.run("flwr-robust watch")
        told += nodes.recipe.run("flwr-robust report")
        assert (home / "results" / "report-nodes.png").exists()
        return nodes.outcome(told, (*HONEST, *LIARS, LATE))


def test_the_defended_federation_learns(one_machine: Outcome) -> None:
    assert one_machine.accuracy > GOOD_ACCURACY


def test_the_report_names_the_two_that_lie(one_machine: Outcome) -> None:
    for partition in LIARS:
        assert set(one_machine.weights(partition)) == {0.0}
        assert str(one_machine.ids[partition]) in one_machine.told  # `flwr supernode list` says which machine that is
    for partition in (*HONEST, LATE):
        assert max(one_machine.weights(partition)) > 0.0


def test_a_node_that_joins_late_takes_part_from_then_on(one_machine: Outcome) -> None:
    late = [one_machine.ids[LATE] in report.nodes for report in one_machine.reports]
    assert late[0] is False
    assert late == sorted(late)
    assert late[-1] is True


def test_a_node_killed_in_the_middle_of_a_round_is_reported_and_ends_no_run(one_machine: Outcome) -> None:
    killed = one_machine.ids[0]
    assert len(one_machine.reports) == 4
    assert [report.skipped for report in one_machine.reports] == [None] * 4
    (first, *_) = [report for report in one_machine.reports if killed not in report.nodes]
    assert first.unanswered == [killed]
    assert first.n == 5


def test_every_command_of_the_section_has_run(one_machine: Outcome) -> None:
    assert one_machine.unused == []


# ------------------------------------------------------------------------------ TLS and registered keys


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    home = tmp_path_factory.mktemp("production")
    with federation("Several organisations: TLS, and nodes that you know", home) as nodes:
        for step in ("mkdir", "openssl req -x509", "openssl req -newkey", "openssl x509"):
            nodes.recipe.run(step)
        nodes.start_superlink()
        for partition in (*HONEST, *LIARS):
            nodes.recipe.run("ssh-keygen", node=partition)
            nodes.recipe.run("flwr supernode register", node=partition)
            nodes.start_node(partition)
        nodes.recipe.run("ssh-keygen", node=LATE)
        nodes.start_node(LATE)  # whose key nobody registered
        wait_until(lambda: "Failed to activate SuperNode" in nodes.log(LATE), "the refusal", home, START_TIMEOUT)
        told = nodes.recipe.run("flwr run", timeout=2 * PATIENCE) + nodes.recipe.run("flwr supernode list")
        assert len(nodes.rounds()) == 2
        told += Recipe("When the server dies", home, {}).run("flwr run", timeout=2 * PATIENCE)
        return nodes.outcome(told, (*HONEST, *LIARS))


def test_the_federation_learns_with_tls_and_registered_keys(production: Outcome) -> None:
    assert production.accuracy > GOOD_ACCURACY
    # Two rounds of the first run, and two of the one that went on.
    assert [(report.round, report.n) for report in production.reports] == [(1, 5), (2, 5), (1, 5), (2, 5)]


def test_only_registered_nodes_take_part(production: Outcome) -> None:
    registered = set(production.ids.values())
    assert all(report.nodes.keys() == registered for report in production.reports)
    assert all(str(node) in production.told for node in registered)


def test_every_command_of_the_production_recipe_has_run(production: Outcome) -> None:
    assert production.unused == []
