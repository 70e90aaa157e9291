"""A sweep's folder, read back: also half done, torn, outdated, or broken."""

import pytest

from flwr_robust.record.fates import ReportError
from simulations.reports.facts import problems
from simulations.reports.sweeps import read_sweep
from tests.simulations.reports.sweeps import made_sweep, write_sweep


def test_a_cell_that_failed_first_and_then_finished_is_done(tmp_path, two_rules):
    folder = write_sweep(tmp_path, *two_rules, fail=[{"attack": "SF"}])
    lines = (folder / "cells.jsonl").read_text()
    again = write_sweep(tmp_path, *two_rules, leave_out=[{"attack": ["ALIE", "No attack"]}])
    (folder / "cells.jsonl").write_text(lines + (again / "cells.jsonl").read_text())
    assert problems(read_sweep(folder)) == []


def test_cells_of_another_version_of_the_grid_are_passed_over(tmp_path, two_rules):
    folder = write_sweep(tmp_path, *two_rules)
    path = folder / "experiment.toml"
    path.write_text(path.read_text().replace('{ label = "SF", attack = "sign-flip" },', ""))
    sweep = read_sweep(folder)
    assert (len(sweep.cells), sweep.outdated) == (8, 4)
    assert "4 cells of another version of the grid were left out." in problems(sweep)


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("cells.jsonl", "", "holds no cell yet; wait"),
        ("cells.jsonl", '{"torn', "holds no cell yet; wait"),
        ("experiment.toml", "title = ", "is no TOML"),
        (
            "experiment.toml",
            "[parameters]\n[grid]\nrule = [1]",
            "holds no cell that experiment.toml beside it plans",
        ),
        ("experiment.toml", "[parameters]\n[table]\nrows = ['alpha']", "rows: the axis 'alpha' is unknown"),
    ],
)
def test_folders_without_a_report_say_why(tmp_path, two_rules, file, text, told):
    folder = write_sweep(tmp_path, *two_rules)
    (folder / file).write_text(text)
    with pytest.raises(ReportError, match=told):
        read_sweep(folder)


def test_a_baseline_that_was_shown_a_trigger_stands_beside_its_own_attack_alone(tmp_path):
    toml = """
    [parameters]
    num-malicious = 1
    [grid]
    attack = [{ label = "BadNets", attack = "badnets" }, { label = "DBA", attack = "dba" }]
    defense = [{ label = "none", num-malicious = 0 }, "mean"]
    [[exclude]]
    attack = "DBA"
    defense = "none"
    """
    place = {"attack": "DBA", "defense": "none"}
    assert made_sweep(tmp_path / "plain", toml, lambda labels: 0.5).has(place)
    told = {"final_accuracy": 0.5, "final_attack_success_rate": 0.1}
    assert not made_sweep(tmp_path / "triggered", toml, lambda labels: told).has(place)
