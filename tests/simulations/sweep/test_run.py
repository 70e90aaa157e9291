"""Sweeps without Ray: stand-ins for sessions show what is done, done again, given up and shown."""

import pytest

from tests.simulations.sweep.fakes import EXPERIMENT, by_label


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
