"""Tables: means, spreads, worst cases, averages, the best, and the paper's numbers, worked out by hand."""

import textwrap

import pytest

from simulations.reports.table import NOTHING, make_table, table_notes
from tests.simulations.reports.sweeps import made_sweep


def made_table(folder, toml, result, sections, **options):
    """Return the first table of a sweep."""
    sweep = made_sweep(folder, toml + textwrap.dedent(sections), result, **options)
    read = sweep.full.sections
    return make_table(sweep, read.table[0], read.table[0].metric[0], read.paper_numbers)


def texts(table):
    return [[entry.text for entry in row] for row in table.entries]


def bold(table):
    return [[entry.best for entry in row] for row in table.entries]


def papers(table):
    return [[entry.paper for entry in row] for row in table.entries]


def test_mean_and_standard_deviation_over_seeds_with_worst_case_and_average(tmp_path, two_rules):
    table = made_table(
        tmp_path,
        *two_rules,
        """
        [table]
        rows = ["defense"]
        columns = ["attack"]
        worst-case = "attack"
        average = "attack"
        compare-along = "rows"
        """,
    )
    # 50 and 60: deviations of 5 from 55, (25 + 25) / (2 - 1) = 50, its root 7.07. Worst case and average leave out
    # what nobody attacks. Averages by seed: Krum (50 + 80) / 2 = 65 and 75, Median (40 + 70) / 2 = 55 and 65.
    assert texts(table) == [
        ["95.0 ± 0.0", "55.0 ± 7.1", "85.0 ± 7.1", "55.0 ± 7.1", "70.0 ± 7.1"],
        ["97.0 ± 0.0", "50.0 ± 14.1", "70.0 ± 0.0", "50.0 ± 14.1", "60.0 ± 7.1"],
    ]
    assert bold(table) == [[False, True, True, True, True], [True, False, False, False, False]]
    assert [row[3].of for row in table.entries] == ["ALIE", "ALIE"]
    assert [str(column["attack"]) for column in table.columns] == ["No attack", "ALIE", "SF", "worst-case", "average"]


def test_worst_case_is_of_the_means_over_the_seeds_not_of_single_seeds(tmp_path, two_rules):
    toml, _ = two_rules
    # Seed by seed the worst are 10 and 20, whose mean is 15; the means are 50 (ALIE) and 55 (SF).
    values = {("ALIE", 1): 0.1, ("ALIE", 2): 0.9, ("SF", 1): 0.9, ("SF", 2): 0.2}
    table = made_table(
        tmp_path,
        toml,
        lambda labels: values.get((labels["attack"], labels["seed"]), 1.0),
        '[table]\nrows = ["defense"]\ncolumns = []\nworst-case = "attack"',
    )
    assert texts(table) == [["50.0 ± 56.6"], ["50.0 ± 56.6"]]
    assert table.title == "Worst case of maximal test accuracy"


def test_an_axis_that_is_in_neither_rows_nor_columns_is_taken_over_in_each_place(tmp_path, two_rules):
    table = made_table(tmp_path, *two_rules, '[table]\nrows = []\ncolumns = ["defense"]\naverage = "attack"')
    assert texts(table) == [["70.0 ± 7.1", "60.0 ± 7.1"]]
    assert bold(table) == [[True, False]]


def test_labels_left_out_neither_compete_nor_count(tmp_path, two_rules):
    table = made_table(
        tmp_path,
        *two_rules,
        """
        [table]
        rows = ["defense"]
        columns = ["attack"]
        average = "attack"
        compare-along = "rows"
        without = ["ALIE"]
        """,
    )
    assert [row[-1].text for row in table.entries] == ["85.0 ± 7.1", "70.0 ± 0.0"]
    assert bold(table) == [[False, False, True, True], [True, False, False, False]]


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


NUMBERS = """
[table]
rows = ["defense"]
columns = ["attack"]
worst-case = "attack"

[[paper-numbers]]
where = { defense = "Krum", attack = "ALIE" }
value = 43.25
spread = 1.3
[[paper-numbers]]
where = { defense = "Krum", attack = "SF" }
value = 91
[[paper-numbers]]
where = { defense = "Median" }
value = 12.3
"""


def test_the_papers_numbers_stand_beside_ours(tmp_path, two_rules):
    table = made_table(tmp_path, *two_rules, NUMBERS)
    # All parts of Krum's worst case are printed, so it follows from them; of Median's the worst case alone is.
    assert papers(table) == [["", "43.3 ± 1.3", "91.0", "43.3 ± 1.3"], ["", "", "", "12.3"]]


def test_a_number_without_the_axis_is_what_a_place_over_that_axis_has_in_the_paper(tmp_path, two_rules):
    table = made_table(tmp_path, *two_rules, NUMBERS.replace('columns = ["attack"]', "columns = []"))
    assert papers(table) == [["43.3 ± 1.3"], ["12.3"]]


REMOVED = """
title = "An axis that the small version removes"
[federation]
num-supernodes = 5
[parameters]
attack = "alie"
model = "cnn-mnist"
[grid]
defense = ["A", "B"]
data = [{ label = "MNIST", dataset = "mnist", model = "cnn" }, { label = "CIFAR-10", dataset = "cifar10" }]
[table]
rows = ["data"]
columns = ["defense"]
[[paper-numbers]]
where = { data = "MNIST", defense = "A" }
value = 90
[[paper-numbers]]
where = { data = "CIFAR-10", defense = "A" }
value = 50
[lite.parameters]
dataset = "mnist"
model = "softmax"
[lite.grid]
data = []
"""


def test_numbers_of_a_removed_axis_are_those_of_the_data_that_are_left(tmp_path):
    table = made_table(tmp_path, REMOVED, lambda labels: 0.5, "", lite=True)
    assert papers(table) == [["90.0", ""]]
    assert table.row_axes == ()


def test_axes_of_a_single_label_are_told_below_the_table(tmp_path):
    toml = REMOVED.replace("data = []", 'data = [{ label = "MNIST", dataset = "mnist" }]')
    sweep = made_sweep(tmp_path, toml, lambda labels: 0.5, lite=True)
    table = make_table(sweep, sweep.full.sections.table[0], sweep.full.sections.table[0].metric[0])
    assert (table.row_axes, table.column_axes) == ((), ("defense",))
    assert "For MNIST." in table_notes(sweep, table)


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
