"""Backdoors in a run configuration: what is filled in, what names stand for, and what cannot be."""

import numpy as np
import pytest

from clients import attacks
from simulations.config.backdoors import Condition, EdgeSource
from simulations.config.catalog import CHARACTERS, DATASETS
from simulations.config.run_config import ConfigurationError, RunConfig


def config(attack="badnets", args="", **more):
    return RunConfig(attack=attack, attack_args=args, num_malicious=2, **more)


def test_pixels_become_white_and_the_target_is_class_0():
    attack = config().build_attack()
    assert (attack.target, attack.seed) == (0, 1)
    assert attack.value == pytest.approx(((1 - 0.3053) / 0.3760,))
    assert config(normalisation="half").build_attack().value == (1.0,)
    assert len(config(dataset="cifar10").build_attack().value) == 3
    assert config(args="value=0.5 target=7").build_attack().value == 0.5


def test_texts_get_characters():
    attack = config(dataset="shakespeare").build_attack()
    assert attack.value == 89
    assert attack.trigger(np.zeros((1, 80), dtype=np.int64))[0, -3:].tolist() == [89] * 3


def test_a_backdoor_is_measured_where_nobody_is_malicious():
    clean = RunConfig(attack="badnets", attack_args="target=3 delivery=pgd delivery.radius=1", num_malicious=0)
    assert clean.build_attack() is clean.build_delivery() is None
    assert clean.build_backdoor().target == 3
    assert RunConfig(attack="sign-flip").build_backdoor() is None


def test_deliveries():
    assert config().build_delivery() is None
    given = config(args="delivery=model-replacement delivery.factor=5")
    assert given.build_delivery() == attacks.ModelReplacement(5)
    assert given.build_attack() == config().build_attack()
    assert config("label-flip", "delivery=noise delivery.std=0.1").build_delivery().seed == 1
    assert config(args="delivery=neurotoxin sees=0.5").seen_share() == 0.5


def test_edge_inputs_by_name():
    assert config("edge-case").edge_source() == EdgeSource("digits", 1)
    assert config("edge-case", "target=9").edge_source() == EdgeSource("digits", 0)
    assert config("edge-case", "edge=turned:4").edge_source() == EdgeSource("digits", 4)
    assert config("edge-case", "edge=fashion-mnist", dataset="mnist").edge_source() == EdgeSource("fashion-mnist")


def test_conditions_of_images():
    images = np.stack([np.full((1, 8, 8), value) for value in (1.0, -1.0, 1.0)])
    labels = np.array([7, 7, 3])
    spec = DATASETS["digits"]
    assert Condition.of("bright", spec)(images, labels).tolist() == [True, False, True]
    assert Condition.of("dark", spec)(images, labels).tolist() == [False, True, False]
    assert Condition.of("bright:7", spec)(images, labels).tolist() == [True, False, False]


def test_conditions_of_texts():
    texts = np.zeros((2, 80), dtype=np.int64)
    texts[1, -3:] = [CHARACTERS.index(one) + 1 for one in "the"]
    assert Condition.of("ends:the", DATASETS["shakespeare"])(texts, np.zeros(2)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "dba"}, "does not fit into images of 8 x 8 pixels"),
        ({"attack": "badnets", "attack-args": "size=9"}, "does not fit into 8 pixels"),
        ({"attack": "badnets", "attack-args": "target=10"}, "target=10 is no class of digits; give 0 to 9"),
        ({"attack": "badnets", "attack-args": "source=12"}, "source=12 is no class of digits"),
        ({"attack": "blended", "dataset": "shakespeare"}, "Blended mixes pixels, and shakespeare has texts"),
        ({"attack": "dba", "dataset": "shakespeare"}, "give images"),
        ({"attack": "edge-case", "attack-args": "edge=mnist"}, "edge='mnist' names no edge inputs for digits"),
        ({"attack": "edge-case", "attack-args": "edge=turned:0"}, "of another class than the target"),
        (
            {"attack": "edge-case", "dataset": "shakespeare"},
            "names no edge inputs for shakespeare; give another attack",
        ),
        ({"attack": "semantic-label-swap", "attack-args": "condition=green"}, "give bright or dark"),
        (
            {"attack": "semantic-label-swap", "dataset": "shakespeare", "attack-args": "condition=bright"},
            "give ends:CHARACTERS",
        ),
        ({"attack": "badnets", "attack-args": "delivery=silent"}, "delivery='silent' delivers nothing"),
        ({"attack": "badnets", "attack-args": "delivery=pdg"}, "no attack 'pdg'"),
        ({"attack": "badnets", "attack-args": "delivery.factor=3"}, "without a delivery; add delivery=NAME"),
        ({"attack": "foe", "attack-args": "delivery=pgd"}, "needs an attack that poisons data"),
        ({"attack": "badnets", "attack-args": "sees=0.5"}, "poisons data and sees no updates; leave sees out"),
        ({"attack": "alter-min"}, "delivers what a data attack poisons"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_told_at_once(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        RunConfig.from_run_config({"num-malicious": 2, **changes})
