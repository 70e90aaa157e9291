"""LPA's heterogeneity xi and disturbance A, measured with all data of all nodes: no real server could."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from simulations.data.batches import Batch, Poison, batches_of
from simulations.data.label_table import Indices
from simulations.node.node import Node
from simulations.node.poisoning import poison_of

# Keeps the draws of flipped labels apart from those of training.
_MEASURED = 11


def heterogeneity(nodes: Iterable[Node], model: nn.Module, server_round: int, device: torch.device) -> dict[str, float]:
    r"""Measure the smallest constants of LPA's Assumptions 3 and 4 at a model.

    .. math:: \xi = \max_{w \in R} \|\nabla f_w - \nabla f\|, \quad
              A = \max_{w \notin R} \|\nabla \tilde f_w - \nabla f\|

    with each node's full local gradient, those of the malicious nodes on poisoned data, and the mean of
    the regular nodes' as nabla f (LPA (7), (8)). The round decides which labels are flipped, where that is drawn.

    Returns
    -------
    dict
        ``measure/xi``, and ``measure/A`` where malicious nodes poison their data.
    """
    model.eval()
    regular: list[torch.Tensor] = []
    poisoned: list[torch.Tensor] = []
    for node in nodes:
        seeds = (node.config.seed, node.partition_id, server_round, _MEASURED)
        poison = poison_of(node, seeds, model) if node.malicious else None
        if node.malicious and poison is None:
            continue
        indices = node.indices()
        batches = batches_of(node.inputs(), node.samples(), device, indices)
        (poisoned if node.malicious else regular).append(_gradient(model, batches, indices, poison))
    mean = torch.stack(regular).mean(dim=0)
    found = {"measure/xi": _farthest(regular, mean)}
    return found | ({"measure/A": _farthest(poisoned, mean)} if poisoned else {})


def _farthest(gradients: list[torch.Tensor], mean: torch.Tensor) -> float:
    return max(float((gradient - mean).norm()) for gradient in gradients)


def _gradient(model: nn.Module, batches: Iterable[Batch], indices: Indices, poison: Poison | None) -> torch.Tensor:
    """Return the gradient of the mean loss over the batches of these samples, as one float64 vector."""
    parameters = list(model.parameters())
    total: torch.Tensor | None = None
    samples = 0
    for inputs, labels in batches:
        if poison is not None:
            chosen = indices[samples : samples + len(labels)]
            inputs, false = poison(chosen, inputs, labels.cpu().numpy())
            labels = torch.from_numpy(false).to(labels.device)
        loss = functional.nll_loss(model(inputs), labels, reduction="sum")
        parts = torch.autograd.grad(loss, parameters)
        flat = torch.cat([part.flatten() for part in parts]).double()
        total = flat if total is None else total + flat
        samples += len(labels)
    assert total is not None
    return total / samples
