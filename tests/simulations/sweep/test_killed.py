"""A real sweep on Flower's Ray engine that is killed in its midst and started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations.run.results import last_line
from simulations.sweep.store import read_records

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 600.0  # a machine that does other things too

# Digits come with scikit-learn: data-dir changes nothing but the cell, so that the cell that is done before the
# kill and the one that is done after it must agree to the last bit. MNIST is not there.
EXPERIMENT = """
[federation]
num-supernodes = 5
[parameters]
partition = "iid"
num-malicious = 1
num-rounds = 20
evaluate-every = 5
[grid]
data = [
    { label = "here", data-dir = "" },
    { label = "missing", data-dir = "nowhere", dataset = "mnist" },
    { label = "there", data-dir = "nowhere" },
]
"""


@pytest.fixture
def command(tmp_path):
    path = tmp_path / "digits.toml"
    path.write_text(EXPERIMENT)
    return [sys.executable, "-m", "simulations.cli", "sweep", str(path), "--out", str(tmp_path)]


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.1)
    return found


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def members(session):
    """Return the processes of a session, zombies left out: nobody may be there to collect them."""
    table = subprocess.run(["ps", "-eo", "pid,sid,stat"], text=True, capture_output=True, check=True).stdout
    rows = [row.split() for row in table.splitlines()[1:]]
    return [int(pid) for pid, sid, state in rows if int(sid) == session and not state.startswith("Z")]


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a session in /proc")
def test_a_killed_sweep_leaves_no_process_and_goes_on_where_it_was(tmp_path, command):
    cells, runs = tmp_path / "digits" / "cells.jsonl", tmp_path / "digits" / "runs"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def in_flight():
        return any(last_line(path).get("round", 0) >= 2 for path in runs.glob("digits_*.jsonl"))

    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as sweep:
        wait_until(lambda: len(read_records(cells)) == 2 and in_flight(), "the last cell's second round")
        (session,) = children(sweep.pid)
        assert len(members(session)) > 2  # the session's own process, Ray's and the nodes'
        sweep.send_signal(signal.SIGKILL)
    wait_until(lambda: not members(session), "the end of the killed sweep's session")
    before = cells.read_bytes().splitlines()

    again = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 of 3 cells are done already." in again.stdout
    assert "Failed: data = missing: DataError: " in again.stdout
    done, resumed, failed = read_records(cells)  # what failed is tried last
    assert cells.read_bytes().splitlines()[0] == before[0]
    assert [record["status"] for record in (done, resumed, failed)] == ["done", "done", "failed"]
    assert resumed["rounds"] == list(range(21))
    assert len(set(resumed["loss"])) == 5
    for key in ("evaluated", "accuracy", "loss", "rounds", "tpr", "fpr"):
        assert resumed[key] == done[key]
    assert all(seconds > 0 for seconds in resumed["measures"]["aggregation-seconds"][1:])
