"""What an experiment file says of its report, and every mistake's sentence."""

import re
import tomllib
from pathlib import Path

import pytest

from simulations.experiments.experiment import FOLDER, ExperimentError, read_experiment
from tests.simulations.reports.sweeps import made_sweep


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
    assert [figure.kind for figure in read.figure] == ["curves", "bars", "heatmap", "scatter"]
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
