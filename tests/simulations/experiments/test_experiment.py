"""Experiment files: what is read from them, which cells they have, and every mistake's sentence."""

import pytest

from simulations.experiments.experiment import FOLDER, ExperimentError, experiment_names, load_experiment
from tests.simulations.experiments.files import TINY, cells_of, labels

EXAMPLE = (FOLDER / "README.md").read_text(encoding="utf-8").split("```")[1].removeprefix("toml\n")


def test_the_documented_example_is_an_experiment(load):
    experiment = load(EXAMPLE)
    assert labels(experiment) == [(1, "SF"), (1, "ALIE"), (2, "ALIE"), (3, "ALIE")]
    assert labels(experiment.lite) == [(1, "SF"), (1, "ALIE")]
    assert (experiment.paper, experiment.num_supernodes, experiment.lite.num_supernodes) == ("NNM", 17, 7)
    assert [cell.config.dataset for cell in cells_of(experiment.lite)] == ["digits", "digits"]


def test_lite_replaces_axes_and_removes_them_and_merges_parameters(load):
    experiment = load(
        TINY + "num-rounds = 9\nmomentum = 0.5\n[grid]\nseed = [1, 2]\nalpha = [0.1, 1.0]\n"
        '[lite]\nclaim = "Less."\n[lite.parameters]\nnum-rounds = 3\n[lite.grid]\nseed = []\nbatch-size = [8]\n'
    )
    assert list(experiment.lite.axes) == ["alpha", "batch-size"]
    assert {(cell.config.num_rounds, cell.config.momentum) for cell in cells_of(experiment.lite)} == {(3, 0.5)}
    assert (experiment.claim, experiment.lite.claim) == ("", "Less.")


def test_lite_keeps_excludes_that_name_what_it_no_longer_has(load):
    experiment = load(
        TINY + "[grid]\nseed = [1, 2]\nalpha = [0.1, 1.0]\n[[exclude]]\nseed = 2\nalpha = 0.1\n[lite.grid]\nseed = []"
    )
    assert labels(experiment) == [(1, 0.1), (1, 1.0), (2, 1.0)]
    assert labels(experiment.lite) == [(0.1,), (1.0,)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("speed = 1" + TINY, ["the key 'speed' is unknown; allowed: "]),
        ("title = 3" + TINY, ["title=3", "text in quotes"]),
        ("[federation]\nnum-supernodes = 5", ["[parameters] is missing; add it"]),
        ("[federation]\nnum-supernodes = 0\n[parameters]", ["num-supernodes=0", "at least 1"]),
        (
            "[federation]\nnodes = 3\n[parameters]",
            ["[federation]: the key 'nodes' is unknown; allowed: num-supernodes"],
        ),
        ("[parameters]\nnum-malicious = 1", ["no number of nodes; add num-supernodes"]),
        (TINY + "[grid]\nseed = 1", ["[grid]: seed=1 is of type int; give a list"]),
        (TINY + "[grid]\nseed = []", ["[grid]: seed is empty; give at least one value"]),
        (TINY + "[grid]\nseed = [1, 1]", ["[grid]: seed: 1 is there twice"]),
        (TINY + "[grid]\nseed = [[1]]", ["[grid] seed: label: [1] must be a text, a number"]),
        (TINY + "[grid]\nattack = [{ attack = 'foe' }]", ["[grid] attack: label is missing"]),
        (TINY + "[grid]\nseeed = [1]", ["[grid] seeed = 1: the key 'seeed' is unknown (did you mean 'seed'?)"]),
        (TINY + "[grid]\nseed = [1, 'x']", ["[grid] seed = 'x'", "whole number"]),
        (
            TINY + "[grid]\nalpha = [1.0, 0.0]\nseed = [1, 2]",
            ["[grid] alpha = 0.0: alpha=0.0 is out of range: give more than 0."],
        ),
        (TINY + "[grid]\nnum-malicious = [2, 3]", ["num-supernodes=5 is too few", "least 7. (num-malicious = 3)"]),
        (TINY + "[grid]\nnum-nodes = [5, 6]", ["num-supernodes=5 is too few for num-nodes=6"]),
        (
            TINY + "experiment = 'nnm-table-2'",
            ["[parameters]: experiment is no parameter of an experiment; leave it out"],
        ),
        (TINY + "[grid]\nout-dir = ['x']", ["[grid]: out-dir: out-dir is no parameter of an experiment; leave it out"]),
        (TINY + "[exclude]\nseed = 1", ["write [[exclude]]"]),
        (
            TINY + "[grid]\nseed = [1]\n[[exclude]]\nseed = 2",
            ["[[exclude]]: the label 2 of seed is unknown; allowed: 1"],
        ),
        (
            TINY + "[grid]\nseed = [1]\n[[exclude]]\nsede = 1",
            ["[[exclude]]: the axis 'sede' is unknown (did you mean 'seed'?)"],
        ),
        (TINY + "[grid]\nseed = [1]\n[[exclude]]\nseed = 1", ["leaves no cell"]),
        (
            TINY + "[grid]\nseed = [1]\n[table]\nrows = ['alpha']",
            ["[table]: rows: the axis 'alpha' is unknown; allowed: seed"],
        ),
        (
            TINY + "[grid]\nseed = [1]\n[table]\nworst-case = 'attack'",
            ["[table]: worst-case: the axis 'attack' is unknown"],
        ),
        (
            TINY + "[[figure]]\nkind = 'pie'",
            ["[[figure]]: kind='pie' is unknown; allowed: curves, heatmap, bars, lines"],
        ),
        (TINY + "[[figure]]\nkind = 'curves'\npanels = ['alpha']", ["[[figure]] curves: panels: the axis 'alpha'"]),
        (
            TINY + "[[figure]]\nkind = 'bars'\nwhere = { alpha = 1 }",
            ["[[figure]] bars: where: the axis 'alpha' is unknown", "[[figure]] bars: x is missing"],
        ),
        (
            TINY + "[grid]\nseed = [1]\n[[paper-numbers]]\nwhere = { seed = 2 }\nvalue = 1.0",
            ["[[paper-numbers]]: where: the label 2 of seed is unknown; allowed: 1, worst-case, average"],
        ),
        ("lite = 1" + TINY, ["lite=1 is of type int; write [lite]"]),
        (TINY + "[lite]\ntitle = 'x'", ["[lite]: the key 'title' is unknown; allowed: claim, federation"]),
        (TINY + "[lite.grid]\nseed = 1", ["[lite] [grid]: seed=1 is of type int; give a list"]),
        ("title =", ["no TOML"]),
    ],
)
def test_mistakes_name_file_and_place(load, text, parts):
    with pytest.raises(ExperimentError) as caught:
        cells_of(load(text))
    for part in ("given.toml", *parts):
        assert part in str(caught.value)


def test_all_mistakes_of_a_file_are_told_at_once_and_each_once(load):
    with pytest.raises(ExperimentError) as caught:
        load(TINY + "[grid]\nseed = 1\nalpha = []\n[lite.parameters]\nnum-rounds = 3")
    assert len(str(caught.value).splitlines()) == 2


def test_unknown_experiments_are_refused_with_the_known():
    with pytest.raises(
        ExperimentError, match=rf"the experiment 'x' is unknown; allowed: {experiment_names()[0]}.*path of a .toml"
    ):
        load_experiment("x")
    with pytest.raises(ExperimentError, match=r"nowhere.toml cannot be read"):
        load_experiment("nowhere.toml")
