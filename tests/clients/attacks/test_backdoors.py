"""What all backdoors have in common, and the rate of their success."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from clients import attacks

EDGE = np.full((2, 1, 6, 6), 9.0, dtype=np.float32)
BACKDOORS = {
    "badnets": {},
    "blended": {},
    "dba": {"width": 2},
    "edge-case": {"edge": EDGE},
    "semantic-label-swap": {"condition": lambda inputs, labels: inputs[:, 0, 0, 0] > 0},
}


def make(name, target=0, **more):
    return attacks.from_spec(name, {"target": target, "seed": 5} | BACKDOORS[name] | more)


def data(count=40):
    random = np.random.default_rng(1)
    return random.normal(size=(count, 1, 6, 6)).astype(np.float32), random.integers(0, 4, count)


@pytest.fixture(params=BACKDOORS)
def name(request):
    return request.param


def eligible(name, inputs, labels, target=0):
    if name == "edge-case":
        return np.ones(len(labels), dtype=bool)
    met = inputs[:, 0, 0, 0] > 0 if name == "semantic-label-swap" else True
    return (labels != target) & met


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_as_many_are_chosen_as_the_definition_says(name, fraction):
    inputs, labels = data()
    chosen = make(name, fraction=fraction).choose(labels, inputs)
    may = eligible(name, inputs, labels)
    assert chosen.dtype == bool
    assert chosen.sum() == math.floor(fraction * may.sum() + 0.5)
    assert not (chosen & ~may).any()


def test_a_seed_chooses_the_same_in_each_call(name):
    inputs, labels = data()
    attack = make(name, fraction=0.5)
    np.testing.assert_array_equal(attack.choose(labels, inputs), attack.choose(labels, inputs))
    other = make(name, fraction=0.5, seed=6).choose(labels, inputs)
    assert (attack.choose(labels, inputs) != other).any()


def test_chosen_samples_get_trigger_and_target_and_others_stay(name):
    inputs, labels = data()
    before = inputs.copy(), labels.copy()
    attack = make(name, fraction=0.5)
    chosen = attack.choose(labels, inputs)
    poisoned, false = attack.poison(inputs, labels)
    np.testing.assert_array_equal(poisoned[~chosen], inputs[~chosen])
    np.testing.assert_array_equal(false, np.where(chosen, 0, labels))
    assert (poisoned.dtype, false.dtype) == (inputs.dtype, labels.dtype)
    wanted = EDGE[np.arange(chosen.sum()) % 2] if name == "edge-case" else attack.trigger(inputs)[chosen]
    np.testing.assert_array_equal(poisoned[chosen], wanted)
    np.testing.assert_array_equal(inputs, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert not np.shares_memory(poisoned, inputs)
    assert not np.shares_memory(attack.trigger(inputs), inputs)


def test_tensors_stay_tensors_with_the_same_numbers(name):
    torch = pytest.importorskip("torch")
    inputs, labels = data()
    attack = make(name, fraction=0.5)
    poisoned, false = attack.poison(torch.tensor(inputs), torch.tensor(labels))
    wanted = attack.poison(inputs, labels)
    assert (poisoned.dtype, false.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(poisoned.numpy(), wanted[0])
    np.testing.assert_array_equal(false.numpy(), wanted[1])
    chosen = attack.choose(torch.tensor(labels), torch.tensor(inputs))
    assert chosen.dtype == torch.bool
    np.testing.assert_array_equal(chosen.numpy(), attack.choose(labels, inputs))
    np.testing.assert_array_equal(attack.trigger(torch.tensor(inputs)).numpy(), attack.trigger(inputs))


@pytest.mark.parametrize(
    "wrong",
    [{"target": -1}, {"target": 1.5}, {"target": True}, {"fraction": 1.1}, {"fraction": math.nan}, {"seed": -1}],
    ids=str,
)
def test_wrong_values(name, wrong):
    with pytest.raises(ValueError, match="was given"):
        make(name, **wrong)


def test_nothing_to_poison_is_said_and_changes_nothing(caplog):
    inputs, labels = data()
    with caplog.at_level(logging.WARNING):
        poisoned, same = attacks.BadNets(0, source=7, seed=1).poison(inputs, labels)
    assert "finds nothing to poison among 40 samples: this node trains honestly" in caplog.text
    np.testing.assert_array_equal(poisoned, inputs)
    np.testing.assert_array_equal(same, labels)


def test_a_source_limits_the_choice():
    _, labels = data()
    chosen = attacks.BadNets(0, source=2, fraction=1.0).choose(labels)
    np.testing.assert_array_equal(chosen, labels == 2)


@pytest.mark.parametrize(
    "labels", [np.zeros((3, 1), dtype=int), np.zeros(3), ["a", "b"]], ids=["2-d", "floats", "words"]
)
def test_wrong_labels(labels):
    with pytest.raises(ValueError, match="give one whole number a sample"):
        attacks.BadNets(0).choose(labels)


def test_inputs_and_labels_must_be_as_many():
    with pytest.raises(ValueError, match="3 inputs and 2 labels"):
        attacks.BadNets(0).poison(np.zeros((3, 6, 6)), np.zeros(2, dtype=int))


def test_a_target_that_the_labels_cannot_hold():
    with pytest.raises(ValueError, match="cannot write its target as uint8"):
        attacks.BadNets(300).poison(np.zeros((3, 6, 6)), np.ones(3, dtype=np.uint8))


def test_backdoors_make_no_updates(name):
    assert attacks.REGISTRY[name].knows == "data"
    with pytest.raises(TypeError, match="makes no updates"):
        make(name)(np.ones((2, 3)), 1)


# ---------------------------------------------------------------- success


def test_success_counts_what_is_not_the_target():
    assert attacks.attack_success_rate(np.array([1, 1, 0, 1]), np.array([0, 2, 2, 1]), 1) == pytest.approx(2 / 3)
    assert attacks.attack_success_rate([0, 0], [1, 2], 1) == 0.0
    assert math.isnan(attacks.attack_success_rate([1, 1], [1, 1], 1))
    assert math.isnan(attacks.attack_success_rate([], [], 1))


def test_success_of_tensors():
    torch = pytest.importorskip("torch")
    assert attacks.attack_success_rate(torch.tensor([3, 3]), torch.tensor([1, 3]), 3) == 1.0


@pytest.mark.parametrize(
    ("predictions", "labels", "target"),
    [([1, 2], [1], 0), ([[0.5, 0.5]], [1], 0), ([0.5], [1], 0), ([1], [1], -1)],
)
def test_wrong_predictions(predictions, labels, target):
    with pytest.raises(ValueError, match="attack_success_rate was given"):
        attacks.attack_success_rate(predictions, labels, target)
