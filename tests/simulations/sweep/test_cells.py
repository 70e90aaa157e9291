"""The cells of an experiment: their parameters, their selection, their seeds."""

import pytest

from simulations.experiments.experiment import ExperimentError, experiment_names, load_experiment
from simulations.sweep.cells import make_plan, parse_seeds, select
from tests.simulations.experiments.files import TINY, cells_of, labels


@pytest.mark.parametrize("name", experiment_names())
@pytest.mark.parametrize("version", ["full", "lite"])
def test_every_cell_of_every_experiment_can_be_run(name, version):
    experiment = load_experiment(name)
    experiment = experiment if version == "full" else experiment.lite
    if experiment is not None:
        assert len(cells_of(experiment)) == experiment.num_cells > 0


def test_cells_take_parameters_of_the_file_and_of_their_values(load):
    cells = cells_of(
        load(TINY + '[grid]\nalpha = [0.1, 1]\nrule = [{ label = "Bucketing", defense = "bucketing+krum" }]')
    )
    assert [(cell.config.alpha, cell.config.defense, cell.config.num_malicious) for cell in cells] == [
        (0.1, "bucketing+krum", 1),
        (1.0, "bucketing+krum", 1),
    ]
    assert [cell.name for cell in cells] == ["alpha = 0.1, rule = Bucketing", "alpha = 1, rule = Bucketing"]
    assert len({cell.fingerprint for cell in cells}) == 2


def test_of_two_axes_that_set_a_key_the_later_one_wins(load):
    experiment = load(
        TINY + "[grid]\nf = [{ label = 2, num-malicious = 2 }]\n"
        'rule = [{ label = "Krum", defense = "krum" }, { label = "f = 0", defense = "mean", num-malicious = 0 }]'
    )
    assert [cell.config.num_malicious for cell in cells_of(experiment)] == [2, 0]


def test_arguments_belong_to_the_name_beside_them(load):
    experiment = load(
        TINY + 'attack-args = "tau=2"\ndefense-args = "num_neighbors=1"\ndefense = "krum"\n[grid]\nattack = [\n'
        '{ label = "SF", attack = "sign-flip" }, { label = "ALIE", attack = "alie", attack-args = "tau=3" }]'
    )
    cells = cells_of(experiment)
    assert [cell.config.attack_args for cell in cells] == ["", "tau=3"]
    assert {cell.config.defense_args for cell in cells} == {"num_neighbors=1"}


def test_arguments_may_have_an_axis_of_their_own(load):
    experiment = load(TINY + '[grid]\nattack-args = ["tau=2", "tau=3"]\nattack = ["foe", "alie"]')
    assert [cell.config.attack_args for cell in cells_of(experiment)] == ["tau=2", "tau=2", "tau=3", "tau=3"]


def test_a_cell_may_have_fewer_nodes_than_the_session(load):
    first, second = cells_of(load(TINY + "[grid]\nnum-nodes = [3, 5]"))
    assert (first.num_nodes, second.num_nodes) == (3, 5)
    assert first.fingerprint == first.config.fingerprint(num_nodes=3)


def test_an_experiment_without_a_grid_is_one_cell(load):
    assert labels(load(TINY)) == [()]


def test_a_mistake_that_many_cells_share_is_told_once(load):
    with pytest.raises(ExperimentError) as caught:
        cells_of(load(TINY + "[grid]\nseed = [1, 2, 3]\nmodel = ['mlp', 'lstm']"))
    assert str(caught.value).splitlines() == [
        "given.toml: model 'lstm' takes texts of 80 characters, but digits has 1x8x8; "
        "for digits use one of: auto, softmax, mlp-small, mlp. (model = lstm)"
    ]


def test_lite_of_an_experiment_that_has_none_is_refused(load):
    path = load(TINY).path
    with pytest.raises(ExperimentError, match=r"no \[lite\] section"):
        make_plan(str(path), lite=True)


def test_cells_are_selected_by_axis_and_label(load):
    cells = cells_of(load(TINY + "[grid]\nseed = [1, 2, 3]\nalpha = [0.1, 1.0]"))
    chosen = select(cells, ["seed=1", "seed = 3", "alpha=0.1"])
    assert [tuple(cell.labels.values()) for cell in chosen] == [(1, 0.1), (3, 0.1)]
    assert select(cells, []) == cells


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed", "'seed' must have the form axis=label; axes: seed, alpha"),
        ("sead=1", r"the axis 'sead' is unknown \(did you mean 'seed'\?\)"),
        ("seed=4", "the value '4' of seed is unknown; allowed: 1, 2"),
    ],
)
def test_unknown_selections_are_refused(load, word, message):
    cells = cells_of(load(TINY + "[grid]\nseed = [1, 2]\nalpha = [0.1]"))
    with pytest.raises(ExperimentError, match=message):
        select(cells, [word])


def test_seeds_replace_the_experiments_or_are_added(load):
    assert labels(load(TINY + "[grid]\nalpha = [0.1]\nseed = [1, 2]").with_seeds((7, 8))) == [(7, 0.1), (8, 0.1)]
    assert labels(load(TINY).with_seeds((7,))) == [(7,)]


@pytest.mark.parametrize(("text", "seeds"), [("", ()), ("4", (4,)), ("1-3", (1, 2, 3)), ("1,3-4,3", (1, 3, 4))])
def test_seeds_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["x", "1-x", "-1", "1;2", "3-1"])
def test_other_seeds_are_refused(text):
    with pytest.raises(ExperimentError, match="must be numbers as in 1-5"):
        parse_seeds(text)
