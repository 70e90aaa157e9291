"""Malicious nodes that poison their own labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from simulations.config.components import poisons_data
from simulations.config.run_config import RunConfig
from simulations.data.batches import LabelMap


def label_map(config: RunConfig, seeds: tuple[int, ...], model: nn.Module) -> LabelMap | None:
    """Return what a malicious node does to its labels; None where the attack leaves them alone.

    The seeds determine which labels are flipped, where that is drawn. Dynamic flips ask the model, as it is when
    labels are flipped: in evaluation mode, which stays on.
    """
    poison = config.build_attack(seed=one_seed(seeds))
    if not poisons_data(poison):
        return None

    def scores(inputs: torch.Tensor) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            return model(inputs)  # type: ignore[no-any-return]

    return lambda labels, inputs: poison.flip(labels, lambda: scores(inputs))


def one_seed(seeds: tuple[int, ...]) -> int:
    """Mix several seeds into one, for generators that take a single number."""
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])
