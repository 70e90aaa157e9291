"""What a report says was run: also what failed, what is missing, and what the small version changes."""

import json

from simulations.reports.facts import differences, make_facts, problems
from simulations.reports.sweeps import read_sweep
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
