"""Where sweeps are."""

from simulations.sweep.folder import find_sweeps
from tests.simulations.reports.sweeps import write_sweep


def test_sweeps_are_found_below_a_folder(tmp_path, two_rules):
    for name in ("b/sweep", "a"):
        write_sweep(tmp_path / name, *two_rules)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cells.jsonl").touch()
    assert find_sweeps(tmp_path) == [tmp_path / "a", tmp_path / "b" / "sweep"]
