"""Who holds which samples: flwr-datasets' partitioners over the labels of a training set."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from flwr_datasets.partitioner import (  # type: ignore[import-untyped]
    DirichletPartitioner,
    IidPartitioner,
    Partitioner,
    PathologicalPartitioner,
)

from simulations.config.catalog import PARTITIONS
from simulations.data.label_table import INDEX, LABEL, Indices, LabelTable
from simulations.data.load import DataError, load_split

# Dirichlet draws that leave a node with less are drawn again. Small on purpose: a large minimum would
# make strong heterogeneity (alpha 0.1 and below) milder than the papers'.
MIN_SAMPLES = 2
DIRICHLET_ATTEMPTS = 100


@lru_cache(maxsize=8)
def node_partitions(
    dataset: str, data_dir: str, partition: str, alpha: float, num_partitions: int, seed: int
) -> tuple[Indices, ...]:
    """Split a training set, once for each process.

    The arguments determine the result, so that every process of a simulation sees the same partitions.
    """
    data = load_split(dataset, "train", data_dir)
    return split_labels(data.labels, partition, num_partitions, alpha, seed, data.owners)


def split_labels(
    labels: npt.NDArray[np.int64],
    partition: str,
    num_partitions: int,
    alpha: float = 1.0,
    seed: int = 0,
    owners: npt.NDArray[np.int64] | None = None,
) -> tuple[Indices, ...]:
    """Assign each sample to exactly one partition.

    Parameters
    ----------
    labels : array of int
        The label of each sample.
    partition : {"iid", "dirichlet", "by-class", "sorted", "natural"}
        ``by-class`` with as many partitions as classes gives partition i class i. With more, partition
        i holds a part of class ``i % classes``; with fewer, class c goes to partition
        ``c * partitions // classes``. ``natural`` deals the owners out in random order: with as many
        partitions as owners, each holds one owner's samples; with fewer, several owners'.
    num_partitions : int
        How many.
    alpha : float
        Concentration of the Dirichlet distribution.
    seed : int
        Of everything that is drawn.
    owners : array of int, optional
        Who wrote or spoke each sample, numbered from 0; for ``natural``.

    Returns
    -------
    tuple of array
        The indices of each partition's samples.

    Raises
    ------
    DataError
        If a partition would be empty.
    """
    if num_partitions > len(labels):
        raise DataError(
            f"{num_partitions} nodes cannot share {len(labels)} samples; use at most one node for each sample."
        )
    if partition == "iid":
        return _run(_iid(num_partitions), labels, np.random.default_rng(seed).permutation(len(labels)))
    if partition == "dirichlet":
        return _dirichlet(labels, num_partitions, alpha, seed)
    if partition == "by-class":
        return _by_class(labels, num_partitions, seed)
    if partition == "sorted":
        return _run(_iid(num_partitions), labels, np.argsort(labels, kind="stable"))
    if partition == "natural":
        return _natural(owners, num_partitions, seed)
    raise DataError(f"{partition!r} is no partition; allowed: {', '.join(PARTITIONS)}.")


def _run(partitioner: Partitioner, labels: npt.NDArray[np.int64], order: Indices) -> tuple[Indices, ...]:
    """Run a partitioner over (label, index) rows: it needs no images."""
    partitioner.dataset = LabelTable.of(labels[order], order)
    return tuple(partitioner.load_partition(i)[INDEX] for i in range(partitioner.num_partitions))


def _iid(num_partitions: int) -> Partitioner:
    """Contiguous shards of equal size: i.i.d. if the rows were shuffled, by label if they were sorted."""
    return IidPartitioner(num_partitions)


def _dirichlet(labels: npt.NDArray[np.int64], num_partitions: int, alpha: float, seed: int) -> tuple[Indices, ...]:
    order = np.arange(len(labels))
    for attempt in range(DIRICHLET_ATTEMPTS):
        # The first attempt uses the seed itself; each later one a seed of its own, far from other runs'.
        own_seed = seed if attempt == 0 else int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
        partitioner = DirichletPartitioner(num_partitions, LABEL, alpha, min_partition_size=MIN_SAMPLES, seed=own_seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each redraw, which is expected here
            try:
                return _run(partitioner, labels, order)
            except ValueError:  # ten draws in a row left a node with too little
                continue
    raise DataError(
        f"Dirichlet partitions with alpha={alpha} leave one of {num_partitions} nodes with fewer than "
        f"{MIN_SAMPLES} of {len(labels)} samples in every draw; use a larger alpha or fewer nodes."
    )


def _by_class(labels: npt.NDArray[np.int64], num_partitions: int, seed: int) -> tuple[Indices, ...]:
    classes, ranks = np.unique(labels, return_inverse=True)
    groups = ranks if num_partitions >= len(classes) else ranks * num_partitions // len(classes)
    _, sizes = np.unique(groups, return_counts=True)
    sharers = np.bincount(np.arange(num_partitions) % len(sizes), minlength=len(sizes))
    if np.any(sizes < sharers):
        raise DataError(
            f"{num_partitions} nodes are too many for one class each: the smallest class has {sizes.min()} "
            "samples; use fewer nodes or another partition."
        )
    partitioner = PathologicalPartitioner(
        num_partitions, LABEL, num_classes_per_partition=1, class_assignment_mode="deterministic", seed=seed
    )
    return _run(partitioner, groups, np.arange(len(labels)))


def _natural(owners: npt.NDArray[np.int64] | None, num_partitions: int, seed: int) -> tuple[Indices, ...]:
    if owners is None:
        raise DataError("these samples have no owners: use another partition than 'natural'.")
    names, ranks = np.unique(owners, return_inverse=True)
    if num_partitions > len(names):
        raise DataError(
            f"{num_partitions} nodes cannot share the samples of {len(names)} owners; use at most one node for each "
            "owner, or another partition."
        )
    holders = np.random.default_rng(seed).permutation(len(names)) % num_partitions
    return tuple(np.flatnonzero(holders[ranks] == node) for node in range(num_partitions))
