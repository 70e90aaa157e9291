"""Means, spreads, worst cases and averages, worked out by hand."""

from tests.simulations.reports.tables import bold, made_table, texts


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
