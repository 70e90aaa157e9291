"""Tables: means, spreads, worst cases, averages, the best, and the paper's numbers, worked out by hand."""

import pytest

from simulations.reports.table import NOTHING
from tests.simulations.reports.tables import bold, made_table, texts


def test_the_best_is_bold_along_columns_unless_told_otherwise_and_ties_are_all_bold(tmp_path, two_rules):
    toml, _ = two_rules
    # 70.04 and 69.96 are both written as 70.0.
    values = {("ALIE", "Krum"): 0.7004, ("ALIE", "Median"): 0.6996, ("SF", "Krum"): 0.3, ("SF", "Median"): 0.4}
    table = made_table(
        tmp_path,
        toml,
        lambda labels: values.get((labels["attack"], labels["defense"]), 0.9),
        '[table]\nrows = ["attack"]\ncolumns = ["defense"]',
    )
    assert bold(table) == [[True, True], [True, True], [False, True]]


BLOCKS = """
title = "Blocks"
[federation]
num-supernodes = 5
[parameters]
attack = "alie"
num-malicious = 1
[grid]
defense = ["A", "NNM + A", "B", "NNM + B", { label = "baseline", num-malicious = 0 }]
[table]
rows = ["defense"]
columns = []
compare-along = "rows"
block-size = 2
without = ["baseline"]
"""


def test_the_best_of_each_block_is_bold(tmp_path):
    values = {"A": 0.2, "NNM + A": 0.3, "B": 0.8, "NNM + B": 0.7, "baseline": 0.9}
    table = made_table(tmp_path, BLOCKS, lambda labels: values[labels["defense"]], "")
    assert bold(table) == [[False], [True], [True], [False], [False]]
    assert table.block_starts == {2, 4}


@pytest.mark.parametrize(
    ("metric", "fields", "text", "best"),
    [
        ("tpr", lambda value: {"tpr": value}, ["20.0", "80.0"], [False, True]),
        ("fpr", lambda value: {"fpr": value}, ["20.0", "80.0"], [True, False]),
        # xi is the mean over the rounds that measured it; neither more nor less of it is better.
        (
            "measure/xi",
            lambda value: {"rounds": [0, 1, 2], "measures": {"measure/xi": [None, value, 3 * value]}},
            ["0.400", "1.60"],
            [False, False],
        ),
        # Seconds are the median over the rounds: the first takes long for reasons of its own.
        (
            "aggregation-seconds",
            lambda value: {"rounds": [0, 1, 2, 3], "measures": {"aggregation-seconds": [None, 9, value, value]}},
            ["0.200", "0.800"],
            [True, False],
        ),
    ],
)
def test_rates_and_measures(tmp_path, metric, fields, text, best):
    toml = BLOCKS.partition("[table]")[0].replace(
        '["A", "NNM + A", "B", "NNM + B", { label = "baseline", num-malicious = 0 }]', '["SignGuard", "LASA"]'
    )
    values = {"SignGuard": 0.2, "LASA": 0.8}
    table = made_table(
        tmp_path,
        toml,
        lambda labels: fields(values[labels["defense"]]),
        f'[table]\nrows = []\ncolumns = ["defense"]\nmetric = "{metric}"',
    )
    assert texts(table) == [text]
    assert bold(table) == [best]


def test_unfinished_and_failed_cells_leave_dashes_and_marks(tmp_path, two_rules):
    table = made_table(
        tmp_path,
        *two_rules,
        '[table]\nrows = ["defense"]\ncolumns = ["attack"]\nworst-case = "attack"\ncompare-along = "rows"',
        leave_out=[{"defense": "Median", "attack": "ALIE"}],
        fail=[{"defense": "Krum", "attack": "SF", "seed": 2}],
    )
    assert texts(table) == [
        ["95.0 ± 0.0", "55.0 ± 7.1", "80.0", "55.0 ± 7.1"],
        ["97.0 ± 0.0", NOTHING, "70.0 ± 0.0", "70.0 ± 0.0"],
    ]
    assert [[entry.complete for entry in row] for row in table.entries] == [
        [True, True, False, False],
        [True, False, True, False],
    ]
    # No worst case is the best while one of them lacks an attack.
    assert bold(table) == [[False, False, True, False], [True, False, False, False]]


EXCLUDED = """
[[exclude]]
defense = "Median"
attack = "SF"
[table]
rows = ["defense"]
columns = ["attack"]
"""


def test_what_the_experiment_leaves_out_is_blank(tmp_path, two_rules):
    table = made_table(tmp_path, *two_rules, EXCLUDED)
    assert texts(table)[1] == ["97.0 ± 0.0", "50.0 ± 14.1", ""]


BASELINE = """
title = "A baseline that is run once"
[federation]
num-supernodes = 5
[parameters]
num-malicious = 1
[grid]
attack = [{ label = "ALIE", attack = "alie" }, { label = "SF", attack = "sign-flip" }]
defense = ["Krum", { label = "baseline", num-malicious = 0 }]
[[exclude]]
defense = "baseline"
attack = "SF"
[table]
rows = ["defense"]
columns = ["attack"]
worst-case = "attack"
"""


def test_a_baseline_stands_beside_all_attacks_and_its_worst_case_names_none(tmp_path):
    values = {"Krum": 0.5, "baseline": 0.9}
    table = made_table(tmp_path, BASELINE, lambda labels: values[labels["defense"]], "")
    assert texts(table) == [["50.0", "50.0", "50.0"], ["90.0", "90.0", "90.0"]]
    assert [row[-1].of for row in table.entries] == ["ALIE", ""]
