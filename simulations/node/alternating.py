"""How malicious nodes train otherwise than honest ones: in turns, or projected after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from clients.attacks import PGD, AlterMin, Attack
from simulations.data.batches import Batch


def train_in_turns(
    model: nn.Module,
    attack: AlterMin,
    malicious: Sequence[Batch],
    clean: Sequence[Batch],
    centre: torch.Tensor | None,
) -> float:
    """Train a model in place and return the mean loss of its clean steps.

    Parameters
    ----------
    model : nn.Module
        The global model.
    attack : AlterMin
        Says how.
    malicious, clean : sequence of Batch
        Poisoned samples alone, and all samples as they are; each step takes the next batch, again from the first.
    centre : tensor, optional
        The last move of the global model's parameters.
    """
    model.train()
    losses: list[float] = []
    start = parameters_to_vector(model.parameters()).detach().clone()
    update = attack.train(start, _gradient(model, malicious, []), _gradient(model, clean, losses), centre)
    vector_to_parameters(start + update, model.parameters())
    return sum(losses) / len(losses)


def projection(model: nn.Module, delivery: Attack | None) -> Callable[[], None]:
    """Return what keeps a model, which is the global one now, inside the ball of PGD; for other deliveries nothing.

    Where the radius depends on other nodes' updates, the adversary projects what comes out of training.
    """
    if not isinstance(delivery, PGD) or not isinstance(delivery.radius, float | int):
        return lambda: None
    start = parameters_to_vector(model.parameters()).detach().clone()

    def project() -> None:
        update = parameters_to_vector(model.parameters()).detach() - start
        vector_to_parameters(start + delivery.project(update), model.parameters())

    return project


def _gradient(
    model: nn.Module, batches: Sequence[Batch], losses: list[float]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from parameters to the gradient of the next batch's loss, which notes the loss."""
    following = cycle(batches)

    def gradient(parameters: torch.Tensor) -> torch.Tensor:
        vector_to_parameters(parameters, model.parameters())
        model.zero_grad(set_to_none=True)
        inputs, labels = next(following)
        loss = functional.nll_loss(model(inputs), labels)
        found = torch.autograd.grad(loss, list(model.parameters()))
        losses.append(loss.item())
        return torch.cat([part.flatten() for part in found])

    return gradient
