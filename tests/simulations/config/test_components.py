"""Attacks and rules of a run, from their names and arguments."""

from simulations.config.components import poisons_data
from simulations.config.run_config import RunConfig


def test_mixtailor_does_without_a_family():
    rule = RunConfig(num_malicious=2, defense="mixtailor", defense_args="without=krum").build_rule()
    assert [member.name for member in rule.pool] == ["median"] * 16 + ["geometric-median"] * 16 + ["bulyan"] * 16


def test_attack_arguments_left_open_are_the_papers():
    attack = RunConfig(attack="foe").build_attack()
    assert attack.tau == "optimal"
    assert RunConfig(attack="foe", attack_args="tau=3").build_attack().tau == 3
    assert RunConfig(attack="label-flip").build_attack().num_classes == 10


def test_label_flip_is_an_attack_on_data():
    assert poisons_data(RunConfig(attack="label-flip").build_attack())
    assert not poisons_data(RunConfig(attack="sign-flip").build_attack())
    assert not poisons_data(None)
