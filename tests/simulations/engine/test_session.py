"""What a session hands to its child."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from simulations.config.run_config import RunConfig
from simulations.engine.session import Resources, Session, _child_environment
from simulations.run.results import read_result


@pytest.mark.parametrize(("given", "told"), [(None, "local"), ("", "local"), ("10.0.0.1:6379", "10.0.0.1:6379")])
def test_a_session_has_a_ray_of_its_own_unless_an_address_is_given(
    monkeypatch: pytest.MonkeyPatch, given: str | None, told: str
) -> None:
    # What an earlier, killed Ray left in /tmp/ray/ray_current_cluster would make the child wait for ever.
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if given is not None:
        monkeypatch.setenv("RAY_ADDRESS", given)
    assert _child_environment(Resources())["RAY_ADDRESS"] == told


def test_a_session_gets_its_part_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert _child_environment(Resources(devices=("1", "2")))["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert _child_environment(Resources())["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_threads_sleep_while_they_wait_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert _child_environment(Resources())["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert _child_environment(Resources())["OMP_WAIT_POLICY"] == "ACTIVE"


CONFIG = RunConfig(num_malicious=1)


def test_a_session_that_is_left_early_leaves_no_process(tmp_path: Path) -> None:
    with Session([CONFIG.replace(out_dir=str(tmp_path))], 5, tmp_path / "session.log") as session:
        group = session._process.pid
        os.killpg(group, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert session.poll() is not None
    assert read_result(session.result_paths[0]).end is None


def test_results_of_an_earlier_run_are_not_taken_for_progress(tmp_path: Path) -> None:
    session = Session([CONFIG.replace(out_dir=str(tmp_path))], 5, tmp_path / "session.log")
    session.result_paths[0].write_text(json.dumps({"type": "end", "final_accuracy": 1.0}) + "\n")
    with session:
        assert read_result(session.result_paths[0]).end is None


def test_folders_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child works in another folder, so that Ray finds our packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLWR_ROBUST_DATA", "data")
    monkeypatch.setattr(sys, "path", ["", "mine", *sys.path])
    session = Session([RunConfig(out_dir="out", data_dir="~/parquet")], 5, tmp_path / "session.log")
    (config,) = session.configs
    assert (config.out_dir, config.data_dir) == (str(tmp_path / "out"), str(Path.home() / "parquet"))
    environment = _child_environment(Resources())
    assert environment["FLWR_ROBUST_DATA"] == str(tmp_path / "data")
    first, *others = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "simulations" / "engine" / "session.py").is_file()
    assert others[:2] == [str(tmp_path), str(tmp_path / "mine")]
