"""The paper's own numbers, beside ours."""

from simulations.reports.table import make_table, table_notes
from tests.simulations.reports.sweeps import made_sweep
from tests.simulations.reports.tables import made_table, papers

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
