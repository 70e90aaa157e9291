"""A sweep's folder, read back: also half done, torn, outdated, or broken."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from flwr_robust.record.fates import ReportError
from simulations.experiments.experiment import FOLDER, ExperimentError, read_experiment
from simulations.reports.facts import differences, make_facts, problems
from simulations.reports.sweeps import read_sweep
from simulations.sweep.folder import find_sweeps
from tests.simulations.reports.sweeps import made_sweep, write_sweep


def test_what_is_missing_or_failed_is_said(tmp_path, two_rules):
    sweep = made_sweep(
        tmp_path,
        *two_rules,
        leave_out=[{"attack": "SF", "defense": "Median"}, {"attack": "SF", "defense": "Krum", "seed": 2}],
        fail=[{"attack": "ALIE", "defense": "Krum", "seed": 1}],
        extra='{"cell": "to',
    )
    assert (len(sweep.cells), len(sweep.failed), len(sweep.missing), sweep.unreadable) == (8, 1, 3, 1)
    assert problems(sweep) == [
        "3 cells of 12 did not run: all with SF, Median; seed = 2, SF, Krum.",
        "1 cell failed: seed = 1, ALIE, Krum (RuntimeError: out of memory).",
        "1 line of cells.jsonl is torn and left out.",
    ]
    assert make_facts(sweep).summary["Cells"] == "8 of 12 finished"


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


def test_parameters_that_differ_though_no_axis_sets_them_are_told(tmp_path, two_rules):
    folder = write_sweep(tmp_path, *two_rules)
    first, *others = (folder / "cells.jsonl").read_text().splitlines()
    cell = json.loads(first)
    cell["parameters"]["num-malicious"] = 2
    (folder / "cells.jsonl").write_text("\n".join([json.dumps(cell), *others]) + "\n")
    assert problems(read_sweep(folder)) == [
        "Cells were run with different num-malicious, though no axis sets it: 2, 1."
    ]


def test_what_the_small_version_changes(tmp_path, two_rules):
    toml, result = two_rules
    lite = "[lite]\nfederation = { num-supernodes = 4 }\nparameters = { num-rounds = 9 }\ngrid = { seed = [1] }"
    sweep = made_sweep(tmp_path, toml + lite, result, lite=True)
    assert [(change.key, change.paper, change.here) for change in differences(sweep)] == [
        ("num-supernodes", "5", "4"),
        ("num-rounds", "not set", "9"),
        ("axis seed", "1, 2", "1"),
    ]


def test_labels_that_stand_for_other_keys_in_the_small_version_are_told_with_them(tmp_path, two_rules):
    toml, result = two_rules
    lite = (
        '[lite.grid]\ndefense = [{ label = "Krum", defense = "multi-krum" }, { label = "Median", defense = "median" }]'
    )
    (change,) = differences(made_sweep(tmp_path, toml + lite, result, lite=True))
    assert (change.paper, change.here) == ('Krum: defense = "krum"', 'Krum: defense = "multi-krum"')


def test_paths_are_not_told(tmp_path, two_rules):
    facts = make_facts(made_sweep(tmp_path, *two_rules))
    assert "out-dir" not in facts.parameters
    assert facts.parameters["num-malicious"] == "1"
    assert facts.versions == "flwr 1.41.0"


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("cells.jsonl", "", "holds no cell yet; wait"),
        ("cells.jsonl", '{"torn', "holds no cell yet; wait"),
        ("experiment.toml", "title = ", "is no TOML"),
        (
            "experiment.toml",
            "[parameters]\n[grid]\nrule = [1]",
            "holds no cell that experiment.toml beside it asks for",
        ),
        ("experiment.toml", "[parameters]\n[table]\nrows = ['alpha']", "rows: the axis 'alpha' is unknown"),
    ],
)
def test_folders_without_a_report_say_why(tmp_path, two_rules, file, text, told):
    folder = write_sweep(tmp_path, *two_rules)
    (folder / file).write_text(text)
    with pytest.raises(ReportError, match=told):
        read_sweep(folder)


def test_the_format_that_is_described_is_the_one_that_is_read(tmp_path):
    described = (FOLDER / "README.md").read_text(encoding="utf-8").split("```")[3].removeprefix("toml\n")
    toml = """
    [parameters]
    [grid]
    seed = [1, 2]
    alpha = [0.1, 1.0]
    attack = [{ label = "ALIE", attack = "alie" }, { label = "SF", attack = "sign-flip" }]
    defense = ["Krum", "Median", "baseline"]
    """
    sweep = made_sweep(tmp_path, toml + described, lambda labels: 0.5)
    read = sweep.full.sections
    assert [figure.kind for figure in read.figure] == ["curves", "bars", "heatmap"]
    assert (read.table[0].block_size, read.table[0].compare_along) == (3, ("rows",))
    assert read.paper_numbers[0].spread == 1.3


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("[table]\nrows = ['defense']\nmetric = 'speed'", "[table]: metric: 'speed' is no metric of a run; allowed: "),
        ("[table]\nmetric = 'tpr'", "[table]: there are neither rows nor columns"),
        ("[table]\nrows = ['attack']\ncolumns = ['attack']", "[table]: 'attack' is in rows and in columns"),
        ("[table]\nrows = ['attack']\nblock-size = 0", "[table]: block-size=0 is out of range: give at least 1"),
        ("[table]\nrows = ['attack']\nwithout = ['LF']", "[table]: without: the label 'LF' is unknown"),
        (
            "[table]\nrows = ['attack']\nworst-case = ['attack', 'defense']",
            "[table]: worst-case: ['attack', 'defense'] must be one axis",
        ),
        (
            "[table]\nrows = ['attack']\ncolour = 'red'",
            "[table]: the key 'colour' is unknown (did you mean",
        ),
        ("[[figure]]\nkind = 'lines'", "[[figure]] lines: x is missing"),
        ("[[figure]]\nkind = 'curves'\nx = 'attack'", "[[figure]] curves: x='attack' is not allowed; give 'round'"),
        ("[[figure]]\nkind = 'curves'\ny = 'tpr'", "'tpr' is not known by round"),
        ("[[figure]]\nkind = 'heatmap'\nx = 'attack'", "[[figure]] heatmap: y is missing"),
        (
            "[[figure]]\nkind = 'curves'\nwhere = { attack = 'LF' }",
            "[[figure]] curves: where: the label 'LF' of attack is unknown",
        ),
        (
            "[[paper-numbers]]\nwhere = { attack = 'SF' }\nvalue = 'high'",
            "[[paper-numbers]]: value='high' is of type str; give a number",
        ),
        ("paper-numbers = [3]", "paper-numbers=3 is of type int; write [[paper-numbers]]"),
    ],
)
def test_mistakes_in_what_is_to_be_reported_are_told_before_anything_runs(two_rules, section, told):
    toml, _ = two_rules
    text = f"{section}\n{toml}" if section.startswith("paper") else f"{toml}\n{section}"
    with pytest.raises(ExperimentError, match=re.escape(told)):
        read_experiment(tomllib.loads(text), Path("given.toml"))


def test_sweeps_are_found_below_a_folder(tmp_path, two_rules):
    for name in ("b/sweep", "a"):
        write_sweep(tmp_path / name, *two_rules)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cells.jsonl").touch()
    assert find_sweeps(tmp_path) == [tmp_path / "a", tmp_path / "b" / "sweep"]
