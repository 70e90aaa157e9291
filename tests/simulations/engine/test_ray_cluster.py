"""Simulations on a Ray cluster that is there already: two nodes on this machine, one with a GPU that is not there."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from simulations.config.run_config import RunConfig
from simulations.engine.progress import watch
from simulations.engine.session import Resources, Session
from tests.deployment.flower import flwr_run, superlink

MEMORY = 100 * 2**20
APP = Path(__file__).resolve().parents[3] / "examples" / "deployment"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A head with one CPU, and a node with two CPUs and a GPU; this process looks on."""
    head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=MEMORY)
        ray.init(address=cluster.address, logging_level="ERROR")
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def least_free() -> Iterator[dict[str, float]]:
    """Yield the least that was free of the cluster's CPUs and GPUs so far."""
    least = {name: ray.cluster_resources()[name] for name in ("CPU", "GPU")}
    deadline = time.monotonic() + 60
    while any(ray.available_resources().get(name) != total for name, total in least.items()):
        assert time.monotonic() < deadline, f"something still uses the cluster: {ray.available_resources()}"
        time.sleep(0.1)
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            free = ray.available_resources()
            for name in least:
                least[name] = min(least[name], free.get(name, 0.0))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield least
    finally:
        over.set()
        looking.join()


def test_a_session_uses_every_node_of_the_cluster(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    config = RunConfig(partition="iid", num_malicious=1, attack="foe", num_rounds=3, out_dir=str(tmp_path))
    with least_free() as least, Session([config], 5, tmp_path / "session.log", Resources(num_cpus=1.0)) as session:
        (result,) = watch(session, ["run"], Console(file=io.StringIO()))
    assert result.end is not None
    assert least == {"CPU": 0.0, "GPU": 1.0}


def test_flwr_run_shares_a_gpu_of_the_cluster_between_two_clients(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)  # of the SuperLink, which starts the simulation
    federation = "num-supernodes=5 client-resources-num-cpus=1 client-resources-num-gpus=0.5"
    out = f'out-dir="{tmp_path / "out"}" num-rounds=2'
    with least_free() as least, superlink(tmp_path, simulation=True):
        told = flwr_run(APP, tmp_path, "--federation-config", federation, "--run-config", out)
    assert (tmp_path / "out" / "model.npz").exists(), told
    assert least == {"CPU": 1.0, "GPU": 0.0}  # two clients, both on the node that has the GPU


def test_more_gpu_than_any_node_has_is_an_error_that_says_so(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    config = RunConfig(partition="iid", num_rounds=1, out_dir=str(tmp_path))
    with Session([config], 7, tmp_path / "session.log", Resources(num_cpus=1.0, num_gpus=2.0)) as session:
        session._process.wait(120)
    assert session.poll() != 0
    assert "ActorPool is empty" in session.log_tail()
