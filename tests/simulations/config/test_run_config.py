"""Run configurations: defaults, experiments, and every mistake's message."""

import tomllib
from pathlib import Path

import pytest
from flwr.common.config import get_fused_config_from_dir, parse_config_args

from simulations.config.run_config import NOT_GIVEN, ConfigurationError, RunConfig, defaults
from simulations.experiments import experiment as experiments
from simulations.experiments.experiment import experiment_names, load_experiment

ROOT = Path(__file__).resolve().parents[3]


def test_the_flower_app_has_every_key_and_gives_none():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["flwr"]["app"]["config"] == dict.fromkeys(defaults(), NOT_GIVEN)


def test_defaults_are_valid_and_complete():
    assert RunConfig.from_run_config({}) == RunConfig() == RunConfig.from_run_config(defaults())
    assert len(defaults()) == len(RunConfig.model_fields)


def test_values_are_read_under_dashed_keys():
    config = RunConfig.from_run_config({"num-rounds": 7, "alpha": 2, "lr-schedule": "inverse:50"})
    assert (config.num_rounds, config.alpha, config.lr_schedule) == (7, 2.0, "inverse:50")
    assert type(config.alpha) is float


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"num-round": 3}, ["'num-round'", "did you mean 'num-rounds'", "allowed: dataset, "]),
        ({"num-rounds": "3"}, ["num-rounds='3'", "type str", "whole number"]),
        ({"num-rounds": 3.0}, ["num-rounds=3.0", "type float", "whole number"]),
        ({"num-rounds": True}, ["type bool", "whole number"]),
        ({"dataset": 3}, ["dataset=3", "text in quotes"]),
        ({"dataset": "mnits"}, ["'mnits'", "did you mean 'mnist'", "digits, mnist, fashion-mnist, cifar10"]),
        ({"partition": "random"}, ["partition='random'", "iid, dirichlet, by-class, sorted, natural"]),
        ({"data-holders": "none"}, ["data-holders='none'", "all, honest"]),
        ({"model": "cnn"}, ["model='cnn'", "auto, softmax, mlp-small, mlp, cnn-mnist"]),
        ({"model": "cnn-mnist"}, ["'cnn-mnist'", "1x28x28", "digits has 1x8x8", "auto, softmax, mlp-small, mlp."]),
        ({"alpha": 0.0}, ["alpha=0.0", "more than 0"]),
        ({"alpha": float("nan")}, ["alpha=nan", "a finite number"]),
        ({"num-rounds": 0}, ["num-rounds=0", "at least 1"]),
        ({"num-malicious": -1}, ["num-malicious=-1", "at least 0"]),
        ({"local-steps": 0}, ["local-steps=0", "at least 1"]),
        ({"local-epochs": -1}, ["local-epochs=-1", "at least 0"]),
        ({"batch-size": -1}, ["batch-size=-1", "at least 0"]),
        ({"num-nodes": -1}, ["num-nodes=-1", "at least 0"]),
        ({"num-nodes": 6}, ["num-nodes=6 is too few for num-malicious=3", "at least 7"]),
        ({"num-nodes": 14, "fraction-train": 0.2}, ["num-nodes=14", "fraction-train=0.2", "at least 15"]),
        ({"fraction-train": 0.0}, ["fraction-train=0.0", "more than 0"]),
        ({"fraction-train": 1.5}, ["fraction-train=1.5", "at most 1"]),
        ({"learning-rate": 0.0}, ["learning-rate=0.0", "more than 0"]),
        ({"learning-rate": float("inf")}, ["learning-rate=inf", "a finite number"]),
        ({"momentum": 1.0}, ["momentum=1.0", "less than 1"]),
        ({"momentum": -0.5}, ["momentum=-0.5", "at least 0"]),
        ({"reset-momentum": 1}, ["reset-momentum=1", "type int", "true or false"]),
        ({"server-learning-rate": 0.0}, ["server-learning-rate=0.0", "more than 0"]),
        ({"server-momentum": 1.0}, ["server-momentum=1.0", "less than 1"]),
        ({"init-scale": 0.0}, ["init-scale=0.0", "more than 0"]),
        ({"normalisation": "own"}, ["normalisation='own'", "auto, half"]),
        ({"augment": "flip"}, ["augment='flip'", "auto, none, crop"]),
        ({"measure": "xi + kapa"}, ["measure: 'kapa' is unknown", "did you mean 'kappa'", "xi, kappa, clipping"]),
        ({"partition": "natural"}, ["partition='natural'", "those of digits have none", "femnist, shakespeare"]),
        ({"dataset": "shakespeare", "model": "mlp"}, ["'mlp' takes images", "texts of 80 characters", "auto, lstm."]),
        ({"model": "lstm"}, ["'lstm' takes texts of 80 characters", "digits has 1x8x8"]),
        ({"weight-decay": -1.0}, ["weight-decay=-1.0", "at least 0"]),
        ({"gradient-clip": -1.0}, ["gradient-clip=-1.0", "at least 0"]),
        ({"seed": -1}, ["seed=-1", "at least 0"]),
        ({"evaluate-every": 0}, ["evaluate-every=0", "at least 1"]),
        ({"lr-schedule": "cosine"}, ["lr-schedule: 'cosine'", '"inverse:50"']),
        ({"server-lr-schedule": "inverse"}, ["server-lr-schedule: 'inverse'", '"inverse:50"']),
        ({"defense": "mixtailor", "defense-args": "without=mean"}, ["without='mean' is unknown", "median, krum"]),
        ({"attack": "foee"}, ["attack='foee'", "'foe'"]),
        ({"attack": "foe", "attack-args": "tua=1"}, ["attack-args='tua=1'", "tau"]),
        ({"attack": "foe", "attack-args": "tau"}, ["attack-args='tau'", "name=value"]),
        ({"defense": "trimed-mean"}, ["'trimed-mean'", "trimmed-mean"]),
        ({"defense": "arc+nnm"}, ["'arc+nnm'", "rule"]),
        ({"defense-args": "s=2"}, ["defense-args='s=2'", "'s'"]),
        ({"experiment": "nnm-table-3"}, ["experiment='nnm-table-3'", "did you mean", "nnm-table-2"]),
    ],
)
def test_mistakes_say_what_is_allowed(given, parts):
    with pytest.raises(ConfigurationError) as caught:
        RunConfig.from_run_config(given)
    for part in parts:
        assert part in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        RunConfig.from_run_config({"alpha": -1.0, "num-rounds": 0, "dataset": "x", "unknown": 1})
    assert len(str(caught.value).splitlines()) == 4


def test_experiment_replaces_defaults_and_what_is_given_beside_it_replaces_both():
    config = RunConfig.from_run_config({"experiment": "nnm-table-2", "num-rounds": 5, "alpha": NOT_GIVEN})
    assert (config.dataset, config.alpha, config.lr_schedule) == ("mnist", 0.1, "inverse:50")
    assert config.num_rounds == 5


def test_a_value_that_equals_its_default_is_obeyed_beside_an_experiment():
    """By Flower's own way from pyproject.toml and ``--run-config`` to what the app is given."""
    options = ['experiment="nnm-table-2" num-rounds=60 lr-schedule="constant" attack-args="" data-dir=""']
    config = RunConfig.from_run_config(get_fused_config_from_dir(ROOT, parse_config_args(options)))
    assert load_experiment("nnm-table-2").parameters["num-rounds"] != 60
    assert (config.num_rounds, config.lr_schedule, config.attack_args) == (60, "constant", "")
    assert (config.dataset, config.alpha) == ("mnist", 0.1)
    assert RunConfig.from_run_config(get_fused_config_from_dir(ROOT, {})) == RunConfig()


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_is_valid(name):
    config = RunConfig.from_run_config({"experiment": name})
    assert config.experiment == name
    needed = load_experiment(name).num_supernodes
    assert needed is None or needed > 2 * config.num_malicious


def test_experiment_mistakes_are_told(tmp_path, monkeypatch):
    (tmp_path / "broken.toml").write_text("[parameters]\nnum-rounds = 'x'\nspeed = 1\n")
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    with pytest.raises(ConfigurationError, match=r"experiment broken: num-rounds='x'(.|\n)*'speed'"):
        RunConfig.from_run_config({"experiment": "broken"})


def test_experiment_without_parameters_is_told(tmp_path, monkeypatch):
    (tmp_path / "empty.toml").write_text("title = 'x'\n")
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"\[parameters\] is missing; add it"):
        load_experiment("empty")


def test_fingerprint_depends_on_every_parameter_but_the_folder():
    config = RunConfig()
    seen = {config.fingerprint()}
    for key, value in defaults().items():
        other = config.to_run_config()
        other[key] = value + "x" if isinstance(value, str) else value + 1
        seen.add(RunConfig.from_record(other).fingerprint())
    assert len(seen) == len(defaults())  # one for each key but out-dir, and the unchanged one
    assert config.fingerprint(num_nodes=10) != config.fingerprint(num_nodes=11)


def test_record_round_trip():
    config = RunConfig(seed=9, attack="alie", gradient_clip=0.0)
    assert RunConfig.from_record(config.to_run_config() | {"server-round": 3, "run-token": "x"}) == config


def test_defense_tolerates_the_malicious_unless_told_otherwise():
    assert RunConfig(num_malicious=2).build_rule().min_rows == 5
    assert RunConfig(num_malicious=2, defense_args="f=4").build_rule().min_rows == 9


@pytest.mark.parametrize(
    ("num_nodes", "fraction", "malicious", "asked", "f"),
    [(100, 0.25, 20, 25, 5), (10, 0.5, 3, 5, 2), (100, 0.29, 0, 29, 0), (7, 1.0, 3, 7, 3), (5, 0.1, 2, 1, 1)],
)
def test_defense_tolerates_the_mean_number_of_malicious_nodes_among_those_asked(
    num_nodes, fraction, malicious, asked, f
):
    config = RunConfig(num_nodes=num_nodes, fraction_train=fraction, num_malicious=malicious, defense="mda")
    assert config.selected(num_nodes) == asked
    assert config.tolerated(num_nodes) == f
    assert config.build_rule(num_nodes).f == f


def test_nobody_attacks_without_attack_or_malicious_nodes():
    assert RunConfig(attack="none").build_attack() is None
    assert RunConfig(num_malicious=0).build_attack() is None
