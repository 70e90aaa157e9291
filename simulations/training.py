"""A node's local work: steps of distributed stochastic heavy ball, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from simulations.catalog import DATASETS
from simulations.data import Split, normalise

Momentum = dict[str, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]
# From labels and images to the labels to train on.
LabelMap = Callable[[npt.NDArray[np.int64], torch.Tensor], npt.NDArray[np.int64]]

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class HeavyBall:
    """Hyperparameters of a local step.

    Attributes
    ----------
    momentum : float
        The weight of the previous momentum.
    weight_decay : float
        Times the parameters, added to the gradient (l2-regularisation).
    gradient_clip : float
        The largest norm of the regularised gradient; 0 for no bound.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    gradient_clip: float = 0.0


def heavy_ball_step(
    model: nn.Module, batch: Batch, previous: Mapping[str, torch.Tensor], rule: HeavyBall, rate: float
) -> tuple[Momentum, float]:
    r"""Take one step, in place, and return the new momentum and the batch's loss.

    .. math:: m_t = \beta m_{t-1} + (1 - \beta) g_t, \qquad \theta_t = \theta_{t-1} - \gamma_t m_t

    with the gradient clipped to its largest norm after weight decay is added. A node that takes one step
    so changes the global model by :math:`-\gamma_t m_t`: what NNM (3) has nodes send.
    """
    model.zero_grad(set_to_none=True)
    images, labels = batch
    loss = functional.nll_loss(model(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    momentum: Momentum = {}
    with torch.no_grad():
        for value in model.parameters():
            if value.grad is not None:
                value.grad.add_(value, alpha=rule.weight_decay)
        if rule.gradient_clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), rule.gradient_clip)
        for name, value in model.named_parameters():
            if value.grad is None:
                continue
            fresh = value.grad.mul(1 - rule.momentum)
            momentum[name] = fresh.add(previous[name], alpha=rule.momentum) if name in previous else fresh
            value.sub_(momentum[name], alpha=rate)
    return momentum, loss.item()


def train(
    model: nn.Module, batches: Iterable[Batch], rates: Iterable[float], momentum: Momentum, rule: HeavyBall
) -> tuple[Momentum, float]:
    """Take one step for each batch and return the momentum and the mean loss."""
    model.train()
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        momentum, loss = heavy_ball_step(model, batch, momentum, rule, rate)
        losses.append(loss)
    return momentum, float(np.mean(losses))


def draw_batches(
    dataset: str,
    data: Split,
    indices: npt.NDArray[np.int64],
    batch_size: int,
    count: int,
    seeds: tuple[int, ...],
    device: torch.device,
    relabel: LabelMap | None = None,
) -> list[Batch]:
    """Draw batches from a node's samples.

    Parameters
    ----------
    dataset : str
        Decides normalisation and mirroring.
    data : Split
        The training set.
    indices : array of int
        The node's samples. One that holds fewer than a batch uses all of them.
    batch_size, count : int
        Samples in a batch, drawn without replacement, and number of batches.
    seeds : tuple of int
        Determine the draws: the run's seed, the node's partition and the round.
    device : torch.device
        Where the batches go.
    relabel : callable, optional
        What a node that poisons its data does to the labels.
    """
    spec = DATASETS[dataset]
    random = np.random.default_rng(list(seeds))
    batches = []
    for _ in range(count):
        chosen = random.choice(indices, size=min(batch_size, len(indices)), replace=False)
        images = normalise(data.images[chosen], spec)
        if spec.flips:
            mirrored = random.random(len(chosen)) < 0.5
            images[mirrored] = images[mirrored, :, :, ::-1]
        inputs = torch.from_numpy(images).to(device)
        labels = data.labels[chosen]
        labels = labels if relabel is None else relabel(labels, inputs)
        batches.append((inputs, torch.from_numpy(labels).to(device)))
    return batches


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: str,
    data: Split,
    device: torch.device,
    indices: npt.NDArray[np.int64] | None = None,
) -> tuple[float, float]:
    """Return accuracy and mean loss on the given samples (all of them by default)."""
    spec = DATASETS[dataset]
    model.eval()
    chosen = np.arange(len(data)) if indices is None else indices
    correct, loss = 0, 0.0
    for start in range(0, len(chosen), EVALUATION_BATCH):
        part = chosen[start : start + EVALUATION_BATCH]
        images = torch.from_numpy(normalise(data.images[part], spec)).to(device)
        labels = torch.from_numpy(data.labels[part]).to(device)
        outputs = model(images)
        loss += float(functional.nll_loss(outputs, labels, reduction="sum"))
        correct += int((outputs.argmax(dim=1) == labels).sum())
    return correct / len(chosen), loss / len(chosen)
