"""What is measured in a run: LPA's xi and A against softmax regression by hand, and no effect on the run itself."""

import numpy as np
import pytest

from simulations.config.run_config import RunConfig
from simulations.data.load import load_split
from simulations.node.node import run_partitions
from tests.simulations.local_grid import run_locally

NODES, FLIPPING = 5, 2
BASE = RunConfig(
    partition="by-class",
    model="softmax",
    num_malicious=FLIPPING,
    attack="label-flip",
    defense="mean",
    num_rounds=2,
    measure="xi",
)


def gradients_at_zero(flip):
    """Full local gradients of softmax regression at zero, where each class has one tenth: by hand."""
    data, found = load_split("digits", "train"), []
    images = (data.inputs.reshape(len(data), -1) / 16 - 0.3053) / 0.3760
    for place, own in enumerate(run_partitions(BASE, NODES)):
        labels = data.labels[own]
        labels = flip(labels) if place >= NODES - FLIPPING else labels
        errors = 0.1 - np.eye(10)[labels]
        found.append(np.concatenate([(errors.T @ images[own]).ravel(), errors.sum(axis=0)]) / len(own))
    return np.array(found)


@pytest.mark.parametrize(
    ("attack", "flip"),
    # All classes are equally improbable: the first is taken.
    [("label-flip", lambda labels: 9 - labels), ("dynamic-label-flip", np.zeros_like)],
)
def test_xi_and_a_are_the_largest_distances_to_the_mean_regular_gradient(tmp_path, attack, flip):
    line = run_locally(BASE.replace(attack=attack), tmp_path, NODES).rounds[0]
    gradients = gradients_at_zero(flip)
    distances = np.linalg.norm(gradients - gradients[: NODES - FLIPPING].mean(axis=0), axis=1)
    assert line["measure/xi"] == pytest.approx(distances[: NODES - FLIPPING].max(), rel=1e-5)
    assert line["measure/A"] == pytest.approx(distances[NODES - FLIPPING :].max(), rel=1e-5)


def test_what_is_measured_comes_at_its_rounds_alone(tmp_path):
    config = BASE.replace(num_rounds=5, evaluate_every=2, defense="arc+mean", measure="xi+kappa+clipping")
    rounds = run_locally(config, tmp_path, NODES).rounds
    assert [line["round"] for line in rounds if "measure/xi" in line] == [0, 2, 4, 5]
    for name in ("kappa", "threshold", "honest-norm"):
        assert [line["round"] for line in rounds if f"measure/{name}" in line] == [1, 2, 3, 4, 5]
    assert rounds[-1]["measure/A"] > 0


def test_norms_are_of_the_honest_updates_alone(tmp_path):
    # The attackers send two hundred times the honest mean, backwards.
    config = BASE.replace(num_rounds=2, attack="foe", attack_args="tau=201", measure="clipping")
    line = run_locally(config, tmp_path, NODES).rounds[1]
    least, median, largest = (line[f"measure/norm-{name}"] for name in ("least", "median", "largest"))
    assert 0 < least < median < largest < 10 * line["measure/honest-norm"]
    assert line["measure/honest-norm"] < np.mean([least, median, largest])


def test_without_poisoned_labels_there_is_no_disturbance(tmp_path):
    config = BASE.replace(attack="foe", attack_args="tau=2", num_rounds=1)
    line = run_locally(config, tmp_path, NODES).rounds[-1]
    assert line["measure/xi"] > 0
    assert "measure/A" not in line


@pytest.mark.parametrize(
    "config",
    [
        BASE.replace(attack_args="probability=0.5", defense="mixtailor", num_malicious=1),
        BASE.replace(attack="dynamic-label-flip", defense="arc+bucketing+centered-clipping", fraction_train=0.8),
        BASE.replace(attack="foe", attack_args="", defense="nnm+krum", model="mlp"),
    ],
)
def test_measuring_changes_nothing_else(tmp_path, config):
    plain, measured = (
        run_locally(config.replace(num_rounds=6, measure=words), tmp_path / (words or "plain"), 7).rounds
        for words in ("", "xi+kappa+clipping")
    )
    for one, other in zip(plain, measured, strict=True):
        assert (one["accuracy"], one["loss"]) == (other["accuracy"], other["loss"])
        assert not any(key.startswith("measure/") for key in one)
    assert {"measure/kappa", "measure/honest-norm", "measure/xi"} <= measured[-1].keys()


def test_rounds_without_honest_replies_have_no_deviation(tmp_path):
    config = BASE.replace(measure="kappa+clipping", fraction_train=0.2, num_rounds=12)
    rounds = run_locally(config, tmp_path, NODES).rounds[1:]
    # One node is asked; a malicious one in some rounds.
    assert 0 < sum("measure/kappa" in line for line in rounds) < 12
