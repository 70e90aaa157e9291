"""Nodes with a backdoor: which samples they poison, round after round."""

import logging

import numpy as np
import pytest
import torch

from clients import attacks
from simulations.config.run_config import RunConfig
from simulations.data.edges import edge_inputs
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.node.node import Node
from simulations.node.poisoning import backdoored, poison_of

NODES = 6
DIGITS = load_split("digits", "train")


def node(attack="badnets", args="target=3", place=5, partition="iid", **more):
    config = RunConfig(num_malicious=2, attack=attack, attack_args=args, partition=partition, num_nodes=NODES, **more)
    return Node(place, NODES, config)


def poisoned(of, chosen):
    poison, _ = backdoored(of)
    images = torch.from_numpy(of.inputs().plain(DIGITS.inputs[chosen]))
    return poison(chosen, images, DIGITS.labels[chosen])


def test_half_of_what_is_not_the_target_is_poisoned():
    of = node()
    indices = of.indices()
    _, chosen = backdoored(of)
    eligible = indices[DIGITS.labels[indices] != 3]
    assert set(chosen) <= set(eligible)
    assert len(chosen) == int(0.5 * len(eligible) + 0.5)


def test_batches_are_poisoned_as_the_whole_is():
    of = node()
    indices = of.indices()
    images, labels = poisoned(of, indices)
    _, chosen = backdoored(of)
    plain = of.inputs().plain(DIGITS.inputs[indices])
    marked = np.isin(indices, chosen)
    trigger = of.config.build_backdoor().trigger(plain)
    np.testing.assert_array_equal(images.numpy(), np.where(marked[:, None, None, None], trigger, plain))
    np.testing.assert_array_equal(labels, np.where(marked, 3, DIGITS.labels[indices]))
    some = indices[[5, 2, 9]]
    images_of_some, labels_of_some = poisoned(of, some)
    np.testing.assert_array_equal(images_of_some.numpy(), images.numpy()[[5, 2, 9]])
    np.testing.assert_array_equal(labels_of_some, labels[[5, 2, 9]])


def test_rounds_agree_and_nodes_differ():
    model = torch.nn.Flatten()
    of = node()
    images = torch.zeros(50, 1, 8, 8)
    chosen = of.indices()[:50]
    first, second = (poison_of(of, (1, 5, t), model)(chosen, images, DIGITS.labels[chosen])[1] for t in (1, 2))
    np.testing.assert_array_equal(first, second)
    copies = node(data_holders="honest", place=4), node(data_holders="honest", place=4, seed=2)
    assert set(backdoored(copies[0])[1]) != set(backdoored(copies[1])[1])


def test_the_ith_malicious_node_takes_part_i():
    args = "target=3 width=2 gap=1 fraction=1.0"
    for place in (4, 5):
        of = node("dba", args, place)
        chosen = of.indices()[DIGITS.labels[of.indices()] != 3]
        images, _ = poisoned(of, chosen)
        wanted, _ = of.config.build_backdoor().poison(
            of.inputs().plain(DIGITS.inputs[chosen]), DIGITS.labels[chosen], part=place - 4
        )
        np.testing.assert_array_equal(images.numpy(), wanted)


def test_edge_inputs_replace_samples():
    of = node("edge-case", "target=3 edge=turned:7 fraction=1.0")
    indices = of.indices()
    images, labels = poisoned(of, indices)
    edge, _ = edge_inputs(of.config, "train")
    np.testing.assert_array_equal(images.numpy(), edge[np.arange(len(indices)) % len(edge)])
    assert set(labels.tolist()) == {3}


def test_semantic_labels_go_by_the_inputs():
    of = node("semantic-label-swap", "target=3 condition=dark")
    indices = of.indices()
    images, labels = poisoned(of, indices)
    plain = Inputs.of("digits").plain(DIGITS.inputs[indices])
    np.testing.assert_array_equal(images.numpy(), plain)
    met = (plain.mean(axis=(1, 2, 3)) < 0) & (DIGITS.labels[indices] != 3)
    np.testing.assert_array_equal(labels, np.where(met, 3, DIGITS.labels[indices]))


def test_a_node_without_the_source_class_trains_honestly_and_says_so(caplog):
    of = node("badnets", "target=3 source=0", partition="sorted")  # the last node, which holds the last digits alone
    indices = of.indices()
    with caplog.at_level(logging.WARNING):
        images, labels = poisoned(of, indices)
    np.testing.assert_array_equal(labels, DIGITS.labels[indices])
    np.testing.assert_array_equal(images.numpy(), of.inputs().plain(DIGITS.inputs[indices]))
    assert "finds nothing to poison" in caplog.text


def test_other_attacks_leave_data_alone():
    assert poison_of(node("sign-flip", ""), (1,), torch.nn.Flatten()) is None


BACKDOORS = [name for name, kind in attacks.REGISTRY.items() if issubclass(kind, attacks.Backdoor)]


@pytest.mark.parametrize("name", BACKDOORS)
def test_every_backdoor_has_something_to_poison_by_default(name):
    args = "width=2 gap=1" if name == "dba" else ""
    _, chosen = backdoored(node(name, args))
    assert len(chosen) > 0
