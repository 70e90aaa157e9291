"""Partitions: each sample once, nobody without, the same in every process."""

import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.config.catalog import PARTITIONS
from simulations.data.load import DataError, load_split
from simulations.data.partitions import MIN_SAMPLES, node_partitions, split_labels

LABELS = np.random.default_rng(0).integers(0, 10, 600)
OWNERS = np.random.default_rng(1).integers(0, 25, 600)


@settings(max_examples=40, deadline=None)
@given(
    partition=st.sampled_from(list(PARTITIONS)),
    nodes=st.integers(1, 20),
    alpha=st.floats(0.3, 10),
    seed=st.integers(0, 1000),
)
def test_each_sample_goes_to_one_node_and_every_node_has_some(partition, nodes, alpha, seed):
    parts = split_labels(LABELS, partition, nodes, alpha, seed, OWNERS)
    assert len(parts) == nodes
    assert min(map(len, parts)) >= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_seed_determines_the_partition(partition):
    one, two = (split_labels(LABELS, partition, 7, 0.5, 3, OWNERS) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "natural"])
def test_other_seeds_give_other_partitions(partition):
    one, two = (split_labels(LABELS, partition, 7, 0.5, seed, OWNERS) for seed in (3, 4))
    assert not all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_partitions_agree_between_processes():
    code = (
        "from simulations.data.partitions import node_partitions as p; import zlib; "
        "print([zlib.crc32(x.tobytes()) for x in p('digits', '', 'dirichlet', 0.5, 6, 2)])"
    )
    outputs = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)}
    assert len(outputs) == 1


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "by-class", "sorted"])
def test_a_table_of_labels_is_split_as_the_data_set_itself(partition, monkeypatch):
    fast = split_labels(LABELS, partition, 7, 0.05, 3)
    plain = type("Plain", (), {"of": lambda labels, order: Dataset.from_dict({"label": labels, "index": order})})
    monkeypatch.setattr("simulations.data.partitions.LabelTable", plain)
    slow = split_labels(LABELS, partition, 7, 0.05, 3)
    assert [part.tolist() for part in fast] == [list(part) for part in slow]


def test_iid_nodes_hold_all_classes_in_equal_amounts():
    parts = split_labels(LABELS, "iid", 5, seed=1)
    assert {len(part) for part in parts} == {120}
    assert all(len(np.unique(LABELS[part])) == 10 for part in parts)


def test_ten_nodes_by_class_hold_their_own_class():
    parts = split_labels(LABELS, "by-class", 10)
    assert [set(LABELS[part]) for part in parts] == [{digit} for digit in range(10)]


def test_by_class_with_more_nodes_than_classes_shares_classes():
    parts = split_labels(LABELS, "by-class", 13)
    assert [set(LABELS[part]) for part in parts] == [{node % 10} for node in range(13)]


def test_by_class_with_fewer_nodes_groups_neighbouring_classes():
    parts = split_labels(LABELS, "by-class", 3)
    assert [set(LABELS[part]) for part in parts] == [{0, 1, 2, 3}, {4, 5, 6}, {7, 8, 9}]


def test_sorted_nodes_hold_consecutive_labels():
    parts = split_labels(LABELS, "sorted", 8)
    assert {len(part) for part in parts} == {75}
    np.testing.assert_array_equal(np.concatenate([LABELS[part] for part in parts]), np.sort(LABELS))


def test_smaller_alpha_is_more_heterogeneous():
    def largest_share(alpha):
        parts = split_labels(LABELS, "dirichlet", 6, alpha, seed=1)
        return np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts])

    assert largest_share(0.1) > largest_share(1.0) > largest_share(100.0)


def test_strong_heterogeneity_leaves_nobody_empty():
    labels = load_split("digits", "train").labels
    parts = split_labels(labels, "dirichlet", 17, 0.1, seed=0)
    assert min(map(len, parts)) >= MIN_SAMPLES


def test_results_are_kept_within_a_process():
    assert node_partitions("digits", "", "iid", 1.0, 4, 0) is node_partitions("digits", "", "iid", 1.0, 4, 0)


@pytest.mark.parametrize(
    ("partition", "nodes", "alpha", "message"),
    [
        ("iid", 601, 1.0, "601 nodes cannot share 600 samples; use at most"),
        ("dirichlet", 300, 0.01, r"alpha=0.01 leave one of 300 nodes .* use a larger alpha or fewer nodes"),
        ("by-class", 600, 1.0, "600 nodes are too many for one class each"),
        ("natural", 26, 1.0, "26 nodes cannot share the samples of 25 owners; use at most one node for each"),
        ("random", 5, 1.0, "'random' is no partition; allowed: iid, dirichlet, by-class, sorted, natural"),
    ],
)
def test_what_cannot_be_split_is_told(partition, nodes, alpha, message):
    with pytest.raises(DataError, match=message):
        split_labels(LABELS, partition, nodes, alpha, owners=OWNERS)


def test_samples_without_owners_have_no_natural_partition():
    with pytest.raises(DataError, match="have no owners: use another partition"):
        split_labels(LABELS, "natural", 5)


def test_each_owners_samples_go_to_one_node_and_owners_are_dealt_out_evenly():
    parts = split_labels(LABELS, "natural", 25, owners=OWNERS)
    assert sorted(int(OWNERS[part][0]) for part in parts) == list(range(25))
    assert all(len(set(OWNERS[part])) == 1 for part in parts)
    assert (
        sorted(len(set(OWNERS[part])) for part in split_labels(LABELS, "natural", 10, owners=OWNERS))
        == [2] * 5 + [3] * 5
    )
