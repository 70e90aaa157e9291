"""Sweeps without Ray: stand-ins for sessions show what is done, done again, given up and shown."""

import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from simulations.cli import app
from simulations.engine.session import OpenSession, Resources
from simulations.run.recorder import RunRecorder
from simulations.run.results import RunResult
from simulations.sweep import lane, run, shares
from simulations.sweep.cells import make_plan
from simulations.sweep.progress import SweepProgress
from simulations.sweep.record import make_record
from simulations.sweep.run import show_plan
from simulations.sweep.store import CellStore, StoreError, read_records

RECORDED = Path(__file__).resolve().parents[3] / "docs" / "results"
EXPERIMENT = """
title = "Three rates"
[federation]
num-supernodes = 5
[parameters]
num-malicious = 1
num-rounds = 2
[grid]
rate = [
    { label = "low", learning-rate = 0.1 },
    { label = "middle", learning-rate = 0.5 },
    { label = "high", learning-rate = 0.9 },
]
"""


class Sessions:
    """What stands in for sessions: all runs, and what becomes of them by learning rate.

    ``"done"``, the default; ``"error"``: the run fails; ``"dies"``: the session ends in its midst;
    ``"refuses"``: the session ends before it has begun.
    """

    def __init__(self):
        self.started = []
        self.ran = []
        self.fates = {}

    def __call__(self, num_supernodes, log_path, resources):
        session = FakeSession(num_supernodes, log_path, resources)
        session.sessions = self
        self.started.append(session)
        return session


class FakeSession(OpenSession):
    """A session whose runs are over as soon as they are asked for."""

    status = None

    def __enter__(self):
        self.log_path.write_text("the log's last words\n")
        return self

    def __exit__(self, *_):
        self.status = -15

    def order(self, config):
        self.sessions.ran.append(config.learning_rate)
        fate = self.sessions.fates.get(config.learning_rate, "done")
        if fate == "interrupt":
            raise KeyboardInterrupt
        if fate == "refuses":
            self.status = 1
            return self.path_of(config)
        recorder = RunRecorder(config, self.num_supernodes)
        recorder.round(0, 0.1, 2.0)
        recorder.train_metrics({"measure/xi": 3.0, "train-loss": 1.0})
        recorder.round(1, None, None)
        if fate == "error":
            recorder.fail(ValueError("no data"))
        elif fate == "dies":
            self.status = -9
        else:
            recorder.round(2, config.learning_rate, 1.0)
            recorder.end()
        return recorder.path

    def poll(self):
        return self.status


@pytest.fixture
def sessions(monkeypatch):
    made = Sessions()
    monkeypatch.setattr(lane, "OpenSession", made)
    monkeypatch.setattr(run, "POLL_INTERVAL", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    return made


@pytest.fixture
def sweep(tmp_path, sessions):
    path = tmp_path / "rates.toml"
    path.write_text(EXPERIMENT)

    def start(*words):
        return CliRunner().invoke(app, ["sweep", str(path), "--out", str(tmp_path / "out"), *words])

    start.experiment = path
    start.folder = tmp_path / "out" / "rates"
    start.cells = start.folder / "cells.jsonl"
    return start


def by_label(path):
    records = read_records(path)
    assert len({record["cell"] for record in records}) == len(records)
    return {record["labels"].get("rate"): record for record in records}


def test_a_sweep_does_each_cell_once_in_one_session_and_writes_what_came_of_it(sweep, sessions):
    result = sweep()
    assert result.exit_code == 0, result.output
    assert sessions.ran == [0.1, 0.5, 0.9]
    assert len(sessions.started) == 1
    assert "[1/3] rate = low: best accuracy 10.0%" in result.output
    assert "3 of 3 cells are done" in result.output
    record = by_label(sweep.cells)["middle"]
    assert (record["status"], record["error"], record["experiment"], record["lite"]) == ("done", None, "rates", False)
    assert (record["evaluated"], record["accuracy"], record["loss"]) == ([0, 2], [0.1, 0.5], [2.0, 1.0])
    assert (record["rounds"], record["measures"]) == ([0, 1, 2], {"measure/xi": [None, 3.0, None]})
    assert (record["max_accuracy"], record["final_accuracy"], record["num_nodes"]) == (0.5, 0.5, 5)
    assert record["parameters"]["learning-rate"] == 0.5
    assert "out-dir" not in record["parameters"]
    assert record["versions"]["flwr"]
    assert (sweep.folder / "experiment.toml").read_text() == EXPERIMENT


def test_what_is_done_is_not_done_again(sweep, sessions):
    sweep("--only", "rate=middle")
    before = sweep.cells.read_bytes()
    result = sweep()
    assert sessions.ran == [0.5, 0.1, 0.9]
    assert "1 of 3 cells are done already." in result.output
    assert sweep.cells.read_bytes().startswith(before)
    sweep()
    assert len(sessions.ran) == 3


def test_half_a_line_of_a_killed_sweep_counts_for_nothing_and_is_repaired(sweep, sessions):
    sweep()
    whole = sweep.cells.read_bytes()
    for cut in (1, len(whole.splitlines()[-1]) // 2, len(whole.splitlines()[-1])):
        sweep.cells.write_bytes(whole[:-cut])
        sessions.ran.clear()
        sweep()
        assert sessions.ran == [0.9]
        assert list(by_label(sweep.cells)) == ["low", "middle", "high"]


@pytest.mark.parametrize("fate", ["error", "dies"])
def test_a_failed_cell_stops_no_other_is_listed_and_tried_again(sweep, sessions, fate):
    sessions.fates[0.5] = fate
    result = sweep()
    assert result.exit_code == 1
    assert sessions.ran == [0.1, 0.5, 0.9]
    why = {"error": "ValueError: no data", "dies": "the session ended with signal SIGKILL; see session.log."}[fate]
    assert f"Failed: rate = middle: {why}" in result.output
    failed = by_label(sweep.cells)["middle"]
    assert (failed["status"], failed["error"], failed["max_accuracy"]) == ("failed", why, None)
    assert failed["accuracy"] == [0.1]
    assert len(sessions.started) == {"error": 1, "dies": 2}[fate]
    sessions.fates.clear()
    assert sweep().exit_code == 0
    assert sessions.ran[3:] == [0.5]
    assert by_label(sweep.cells)["middle"]["status"] == "done"


def test_cells_that_failed_come_after_those_never_tried(sweep, sessions):
    sessions.fates[0.1] = "error"
    sweep("--only", "rate=low")
    sweep()
    assert sessions.ran == [0.1, 0.5, 0.9, 0.1]


def test_a_cell_is_not_blamed_for_a_session_that_ends_before_it_begins(sweep, sessions):
    order = FakeSession.order
    calls = []

    def refuse_once(self, config):
        calls.append(config.learning_rate)
        self.sessions.fates = {0.1: "refuses"} if len(calls) == 1 else {}
        return order(self, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSession, "order", refuse_once)
        assert sweep().exit_code == 0
    assert calls == [0.1, 0.1, 0.5, 0.9]


def test_a_sweep_gives_up_where_no_session_starts(sweep, sessions):
    sessions.fates[0.1] = "refuses"
    result = sweep()
    assert result.exit_code == 1
    assert len(sessions.started) == lane.MAX_EARLY_ENDS
    assert "3 sessions in a row ended early" in result.output
    assert "the log's last words" in result.output
    assert read_records(sweep.cells) == []


def test_changed_parameters_are_done_anew_and_old_results_set_aside(sweep, sessions):
    sweep()
    sweep.experiment.write_text(EXPERIMENT.replace("0.5", "0.6").replace("low", "lowest"))
    result = sweep()
    assert sessions.ran[3:] == [0.6]
    assert "1 line of cells with other parameters moved to superseded.jsonl" in result.output
    assert list(by_label(sweep.cells)) == ["lowest", "high", "middle"]
    (old,) = read_records(sweep.folder / "superseded.jsonl")
    assert old["parameters"]["learning-rate"] == 0.5


def rewrite(path, change):
    """Change the parameters of the lines of a file, as another version would have written them."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record["parameters"])
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_cells_of_a_version_that_did_not_know_a_key_are_done(sweep, sessions):
    sweep()
    rewrite(sweep.cells, lambda parameters: [parameters.pop(key) for key in ("fraction-train", "augment")])
    assert "3 of 3 cells are done already." in sweep().output
    assert len(sessions.ran) == 3


@pytest.mark.parametrize(("key", "value"), [("num-rounds", 3), ("momentum", 0.5), ("a-key-that-went", 1)])
def test_cells_for_which_something_else_was_chosen_are_not_done(sweep, sessions, key, value):
    """Be it a key that the experiment sets, one that it leaves alone now, or one that nobody knows any more."""
    sweep("--only", "rate=low")
    rewrite(sweep.cells, lambda parameters: parameters.update({key: value}))
    sweep("--only", "rate=low")
    assert sessions.ran == [0.1, 0.1]


@pytest.mark.parametrize("folder", sorted(RECORDED.glob("*-lite")), ids=lambda folder: folder.name)
def test_recorded_results_are_done_cells_of_their_experiments(folder, tmp_path):
    """What docs/results holds was recorded by several versions, some of which lacked keys of today's."""
    (tmp_path / folder.name).mkdir()
    shutil.copy(folder / "cells.jsonl", tmp_path / folder.name)
    plan = make_plan(folder.name.removesuffix("-lite"), lite=True, out=tmp_path)
    output = io.StringIO()
    show_plan(plan, Console(file=output, width=200))
    (cells,) = re.findall(r"(\d+) of \1 cells, (\d+) of them done", output.getvalue())
    assert cells[0] == cells[1]


def test_cells_of_other_seeds_stay(sweep, sessions):
    sweep("--seeds", "4-5", "--only", "rate=low")
    sweep("--seeds", "6", "--only", "rate=low")
    assert [record["seed"] for record in read_records(sweep.cells)] == [4, 5, 6]


def test_several_sessions_share_the_cells(sweep, sessions):
    assert sweep("--parallel", "2").exit_code == 0
    assert sorted(sessions.ran) == [0.1, 0.5, 0.9]
    assert [session.log_path.name for session in sessions.started] == ["session.log", "session-2.log"]


def test_a_dry_run_shows_the_cells_and_starts_nothing(sweep, sessions):
    result = sweep("--dry-run")
    assert result.exit_code == 0
    assert "3 of 3 cells, 0 of them done" in result.output
    assert not sessions.started
    assert not sweep.folder.exists()
    sweep("--only", "rate=low")
    words = sweep("--dry-run", "--only", "rate=low", "--only", "rate=high").output
    assert "2 of 3 cells, 1 of them done" in words


def test_ctrl_c_ends_the_sessions_and_says_how_to_go_on(sweep, sessions):
    sessions.fates[0.5] = "interrupt"
    result = sweep()
    assert result.exit_code == 130
    assert "The same command goes on where it was" in result.output
    assert sessions.started[0].status == -15
    assert list(by_label(sweep.cells)) == ["low"]


def test_mistakes_in_the_command_are_told(sweep):
    for words, told in ((("--lite",), "no [lite] section"), (("--seeds", "x"), "1-5"), (("--only", "a=b"), "axis 'a'")):
        result = sweep(*words)
        assert result.exit_code == 1
        assert told in result.output


def test_two_sweeps_do_not_write_to_one_folder(sweep):
    with CellStore(sweep.folder, []), pytest.raises(StoreError, match="another sweep"), CellStore(sweep.folder, []):
        pass
    with CellStore(sweep.folder, []):
        assert "another sweep is writing" in sweep().output
    assert sweep().exit_code == 0


def test_a_line_that_is_no_cell_is_told(sweep):
    sweep.folder.mkdir(parents=True)
    for line in ("nonsense", "3", '{"cell": "x"}'):
        sweep.cells.write_text(line + "\n")
        assert f"line 1 of {sweep.cells} is no cell" in sweep().output


TWINS = (
    EXPERIMENT
    + """
[[grid.f]]
label = 1
num-malicious = 1
[[grid.f]]
label = 2
num-malicious = 2
[[grid.defense]]
label = "Krum"
defense = "krum"
[[grid.defense]]
label = "nobody attacks"
defense = "mean"
num-malicious = 0
"""
)


def test_cells_that_are_the_same_run_are_done_once_and_each_has_a_line(sweep, sessions):
    sweep.experiment.write_text(TWINS)
    chosen = ("--only", "rate=low")
    result = sweep(*chosen, "--only", "f=1")
    assert result.exit_code == 0
    assert "2 of 2 cells are done" in result.output
    result = sweep(*chosen)
    assert len(sessions.ran) == 3
    assert "3 of 4 cells are done already." in result.output
    assert "[4/4] rate = low, f = 2, defense = Krum" in result.output
    lines = read_records(sweep.cells)
    assert sorted((line["labels"]["f"], line["labels"]["defense"]) for line in lines) == [
        (1, "Krum"),
        (1, "nobody attacks"),
        (2, "Krum"),
        (2, "nobody attacks"),
    ]
    assert len({line["cell"] for line in lines}) == 3


def test_a_failed_run_of_several_cells_is_replaced_as_a_whole(sweep, sessions):
    sweep.experiment.write_text(TWINS)
    chosen = ("--only", "rate=low", "--only", "defense=nobody attacks")
    sessions.fates[0.1] = "error"
    result = sweep(*chosen)
    assert "0 of 2 cells are done" in result.output
    sessions.fates.clear()
    assert sweep(*chosen).exit_code == 0
    assert [line["status"] for line in read_records(sweep.cells)] == ["done", "done"]


def test_numbers_that_json_does_not_know_are_refused(sweep, tmp_path):
    plan = make_plan(str(sweep.experiment))
    cell = plan.cells[0]
    record = make_record(plan.experiment, cell, RunResult(tmp_path / "none.jsonl")) | {"loss": [float("nan")]}
    with CellStore(sweep.folder, [cell]) as store, pytest.raises(ValueError, match="Out of range float"):
        store.add(record)
    assert read_records(sweep.cells) == []


def test_one_session_gets_the_whole_machine_and_several_get_parts(monkeypatch):
    nodes = Resources(num_cpus=2.0, num_gpus=0.25)
    monkeypatch.setattr(shares, "default_threads", lambda: 10)
    monkeypatch.setattr(shares, "visible_gpus", lambda: ("4", "5", "6"))
    assert shares.share_out(nodes, 1) == [nodes]
    assert [(share.session_cpus, share.devices, share.num_gpus) for share in shares.share_out(nodes, 2)] == [
        (5, ("4", "6"), 0.25),
        (5, ("5",), 0.25),
    ]
    # Six sessions on three GPUs: two share one, and the nodes of each must leave the other its half.
    six = shares.share_out(nodes, 6)
    assert [(share.session_cpus, share.devices, share.num_gpus) for share in six] == [
        (2, (device,), 0.5) for device in ("4", "5", "6", "4", "5", "6")
    ]
    assert shares.share_out(Resources(), 3) == [Resources(session_cpus=3)] * 3


@pytest.mark.parametrize(("cores", "num_gpus", "sessions"), [(2, 0, 1), (16, 0, 4), (16, 0.5, 3), (2, 0.5, 1)])
def test_sessions_side_by_side_by_default(monkeypatch, cores, num_gpus, sessions):
    monkeypatch.setattr(shares, "default_threads", lambda: cores)
    monkeypatch.setattr(shares, "visible_gpus", lambda: ("0", "1", "2"))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert shares.sensible_sessions(Resources(num_gpus=num_gpus)) == sessions


def test_on_a_ray_cluster_there_is_one_session(sweep, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(shares, "default_threads", lambda: 16)
    assert shares.sensible_sessions(Resources()) == 1
    refused = sweep("--parallel", "2")
    assert refused.exit_code != 0
    assert "--parallel 2 was given with RAY_ADDRESS=10.0.0.1:6379" in " ".join(refused.output.split())
    assert sweep().exit_code == 0


def test_a_terminal_shows_cells_rounds_and_time_left(sweep):
    cells = make_plan(str(sweep.experiment)).cells
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=120)
    with SweepProgress(console, cells, cells[1:]) as progress:
        progress.show(1, cells[1], 1)
        progress._bars.refresh()
        shown = console.file.getvalue()
        assert "1 of 3 cells are done already." in shown
        assert re.search(r"Cells .* 1/3 cells .* left", shown)
        assert re.search(r"rate = middle .* 1/2 rounds", shown)
        progress.finished(1, cells[1], {"error": "ValueError: [no] data"})
        assert "[2/3] rate = middle: failed: ValueError: [no] data" in console.file.getvalue()


def test_time_left_is_that_of_the_rounds_so_far(sweep, monkeypatch):
    sweep.experiment.write_text(EXPERIMENT.replace("num-rounds = 2", "num-rounds = 1000"))
    cells = make_plan(str(sweep.experiment)).cells
    clock = SimpleNamespace(now=100.0)
    console = Console(file=io.StringIO())
    with SweepProgress(console, cells, cells) as progress:
        progress._bars.get_time = lambda: clock.now
        for task in progress._bars.tasks:
            task._get_time = lambda: clock.now
        progress.show(1, cells[0], 0)
        assert progress._time_left == "time left unknown"
        clock.now += 60.0  # until the session has started
        times = []
        for rounds, seconds in ((1, 0.0), (11, 5.0), (901, 445.0)):
            clock.now += seconds
            progress.show(1, cells[0], rounds)
            times.append(progress._time_left)
        assert times[1:] == ["about 25 min left", "about 18 min left"]  # half a second a round
