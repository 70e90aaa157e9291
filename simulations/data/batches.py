"""Which samples a node trains on in a round, and in which steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from simulations.data.inputs import Inputs
from simulations.data.label_table import Indices
from simulations.data.load import Split

Batch = tuple[torch.Tensor, torch.Tensor]
# Samples that are evaluated at a time.
EVALUATION_BATCH = 1000
# From samples' indices, inputs and labels to the inputs and labels to train on.
Poison = Callable[[Indices, torch.Tensor, Indices], tuple[torch.Tensor, Indices]]


@dataclass(frozen=True)
class Plan:
    """The steps of a round."""

    batch_size: int
    """Samples in a step; a node that holds fewer uses all of them. 0: all that the node has, in order."""
    steps: int = 1
    """How many, each on samples drawn without replacement."""
    epochs: int = 0
    """Unless 0, passes over the samples in random order take the place of `steps`; the last step of a pass takes what
    is left."""

    def count(self, samples: int) -> int:
        """Return the number of steps of a node that holds this number of samples."""
        return self.epochs * ceil(samples / self._size(samples)) if self.epochs else self.steps

    def choose(self, indices: Indices, random: np.random.Generator) -> Iterator[Indices]:
        """Yield the samples of each step."""
        samples = len(indices)
        size = self._size(samples)
        if not self.batch_size:
            yield from [indices] * self.count(samples)
        elif self.epochs:
            for _ in range(self.epochs):
                order = random.permutation(indices)
                yield from (order[start : start + size] for start in range(0, samples, size))
        else:
            for _ in range(self.steps):
                yield random.choice(indices, size=size, replace=False)

    def _size(self, samples: int) -> int:
        return min(self.batch_size or samples, samples)


def draw_batches(
    inputs: Inputs,
    data: Split,
    indices: Indices,
    plan: Plan,
    seeds: tuple[int, ...],
    device: torch.device,
    poison: Poison | None = None,
) -> list[Batch]:
    """Draw a round's batches from a node's samples.

    Parameters
    ----------
    inputs, data : Inputs, Split
        How samples are read, and the training set.
    indices, plan : array of int, Plan
        The node's samples, and how many batches of how many.
    seeds : tuple of int
        Determine the draws: the run's seed, the node's partition and the round.
    device : torch.device
        Where the batches go.
    poison : callable, optional
        What a node that poisons its data does to samples.
    """
    random = np.random.default_rng(list(seeds))
    batches = []
    for chosen in plan.choose(indices, random):
        samples = torch.from_numpy(inputs.augmented(data.inputs[chosen], random)).to(device)
        labels = data.labels[chosen]
        if poison is not None:
            samples, labels = poison(chosen, samples, labels)
        batches.append((samples, torch.from_numpy(labels).to(device)))
    return batches


def batches_of(inputs: Inputs, data: Split, device: torch.device, indices: Indices | None = None) -> Iterator[Batch]:
    """Yield all samples in order, or the given ones, in batches, as they are."""
    count = len(data) if indices is None else len(indices)
    for start in range(0, count, EVALUATION_BATCH):
        several = slice(start, start + EVALUATION_BATCH)
        part = several if indices is None else indices[several]
        samples = torch.from_numpy(inputs.plain(data.inputs[part])).to(device)
        yield samples, torch.from_numpy(data.labels[part]).to(device)
