"""The file of finished cells: what counts as done, is replaced, is set aside."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from simulations.run.results import RunResult
from simulations.sweep.cells import make_plan
from simulations.sweep.record import make_record
from simulations.sweep.run import show_plan
from simulations.sweep.store import CellStore, StoreError, read_records
from tests.simulations.sweep.fakes import EXPERIMENT, by_label

RECORDED = Path(__file__).resolve().parents[3] / "docs" / "results"


def test_half_a_line_of_a_killed_sweep_counts_for_nothing_and_is_repaired(sweep, sessions):
    sweep()
    whole = sweep.cells.read_bytes()
    for cut in (1, len(whole.splitlines()[-1]) // 2, len(whole.splitlines()[-1])):
        sweep.cells.write_bytes(whole[:-cut])
        sessions.ran.clear()
        sweep()
        assert sessions.ran == [0.9]
        assert list(by_label(sweep.cells)) == ["low", "middle", "high"]


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
