"""A node's local work: steps of distributed stochastic heavy ball, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from simulations.data.batches import Batch

Momentum = dict[str, torch.Tensor]


@dataclass(frozen=True)
class HeavyBall:
    """Hyperparameters of a local step."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    """Times the parameters, added to the gradient (l2-regularisation)."""
    gradient_clip: float = 0.0
    """The largest norm of the regularised gradient; 0 for no bound."""


def heavy_ball_step(
    model: nn.Module, batch: Batch, previous: Mapping[str, torch.Tensor], rule: HeavyBall, rate: float
) -> tuple[Momentum, float]:
    r"""Take one step, in place, and return the new momentum and the batch's loss.

    .. math:: m_t = \beta m_{t-1} + (1 - \beta) g_t, \qquad \theta_t = \theta_{t-1} - \gamma_t m_t

    with the gradient clipped to its largest norm after weight decay is added. A node that takes one step
    so changes the global model by :math:`-\gamma_t m_t`: what NNM (3) has nodes send.
    """
    model.zero_grad(set_to_none=True)
    inputs, labels = batch
    loss = functional.nll_loss(model(inputs), labels)
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
    model: nn.Module,
    batches: Iterable[Batch],
    rates: Iterable[float],
    momentum: Momentum,
    rule: HeavyBall,
    after_step: Callable[[], None] = lambda: None,
) -> tuple[Momentum, float]:
    """Take one step for each batch, do what is to be done after each, and return the momentum and the mean loss."""
    model.train()
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        momentum, loss = heavy_ball_step(model, batch, momentum, rule, rate)
        after_step()
        losses.append(loss)
    return momentum, float(np.mean(losses))


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[torch.Tensor]) -> NDArray[np.int64]:
    """Return the class that a model gives each input of some batches."""
    model.eval()
    return np.concatenate([model(inputs).argmax(dim=1).cpu().numpy() for inputs in batches])


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, float]:
    """Return accuracy and mean loss over all samples."""
    model.eval()
    samples, correct, loss = 0, 0, 0.0
    for inputs, labels in batches:
        outputs = model(inputs)
        loss += float(functional.nll_loss(outputs, labels, reduction="sum"))
        correct += int((outputs.argmax(dim=1) == labels).sum())
        samples += len(labels)
    return correct / samples, loss / samples
