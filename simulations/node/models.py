"""The papers' models, in PyTorch, all with log-softmax outputs (see `simulations.config.catalog.MODELS`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import cast

import torch
from torch import nn

from simulations.config.catalog import DATASETS, MODELS, DatasetSpec, resolve_model


def build_model(model: str, dataset: str, seed: int | None = None) -> nn.Module:
    """Build a model of `simulations.config.catalog.MODELS`, or ``auto``, for a data set; the seed is of its parameters.

    Raises
    ------
    ValueError
        If the model does not take the data set's samples.
    """
    spec = DATASETS[dataset]
    name = resolve_model(model, dataset)
    if seed is None:
        return BUILDERS[name](spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILDERS[name](spec)


def initial_model(model: str, dataset: str, seed: int, scale: float = 1.0) -> nn.Module:
    """Build the model that a run starts with: `build_model`'s, each parameter times `scale` (ARC 5.2's mu)."""
    made = build_model(model, dataset, seed)
    with torch.no_grad():
        for value in made.parameters():
            value.mul_(scale)
    return made


@lru_cache(maxsize=4)
def shared_model(model: str, dataset: str, device: torch.device) -> nn.Module:
    """Return this process's scratch model, whose parameters each user overwrites."""
    return build_model(model, dataset).to(device)


@dataclass(frozen=True)
class Sizes:
    """What the layers of `simulations.config.catalog.MODELS` leave open."""

    kernel: int = 5
    padding: int = 0
    dropout: float = 0.0
    drops_channels: bool = False
    """Whether dropout between convolutions drops whole channels."""


def _from_layers(name: str, spec: DatasetSpec, sizes: Sizes) -> nn.Module:
    """Build a network as the catalog writes its layers down, in the papers' notation."""
    layers: list[nn.Module] = []
    channels, side, features = spec.shape[0], spec.shape[-1], prod(spec.shape)
    flat = False
    for word in MODELS[name].layers.split(", ")[0].split("-"):
        kind, given = word[0], word[2:-1]
        if kind == "C":
            layers.append(nn.Conv2d(channels, int(given), sizes.kernel, padding=sizes.padding))
            channels, side = int(given), side + 2 * sizes.padding - sizes.kernel + 1
            features = channels * side**2
        elif kind == "M":
            layers.append(nn.MaxPool2d(2))
            side //= 2
            features = channels * side**2
        elif kind == "L":
            width = spec.num_classes if given == "K" else int(given)
            layers += [nn.Linear(features, width)] if flat else [nn.Flatten(), nn.Linear(features, width)]
            features, flat = width, True
        elif kind == "D":
            layers.append((nn.Dropout2d if sizes.drops_channels and not flat else nn.Dropout)(sizes.dropout))
        elif kind == "B":
            layers.append(nn.BatchNorm2d(channels))
        else:
            layers.append(nn.ReLU() if kind == "R" else nn.LogSoftmax(dim=1))
    return nn.Sequential(*layers)


def _softmax(spec: DatasetSpec) -> nn.Module:
    network = _from_layers("softmax", spec, Sizes())
    for value in network.parameters():
        nn.init.zeros_(value)
    return network


def _resnet18(spec: DatasetSpec, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
    # Takes three seconds to import, which nodes with other models need not wait for.
    from torchvision.models import resnet18  # type: ignore[import-untyped]

    network = resnet18(num_classes=spec.num_classes, norm_layer=norm)
    # The usual stem for images of 32x32 pixels, which the original one would shrink to 8x8 at once.
    network.conv1 = nn.Conv2d(spec.shape[0], 64, kernel_size=3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return nn.Sequential(network, nn.LogSoftmax(dim=1))


class CharacterLSTM(nn.Module):
    """LASA's recurrent network: which character follows a text (Reddi et al.; LASA 7.2)."""

    def __init__(self, num_characters: int, embedding: int = 8, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, batch_first=True)
        self.output = nn.Linear(hidden, num_characters)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """Map texts (samples, length) to log-probabilities (samples, characters)."""
        states, _ = self.lstm(self.embedding(texts))
        return cast(torch.Tensor, self.output(states[:, -1]).log_softmax(dim=1))


SIZES = {
    "mlp-small": Sizes(),
    "mlp": Sizes(),
    # NNM and ARC print a second C(20), but their 431,080 parameters are those of C(50).
    "cnn-mnist": Sizes(kernel=5),
    # The papers' note says 5x5 without padding; their 1,310,922 parameters need 3x3 with padding 1.
    "cnn-cifar10": Sizes(kernel=3, padding=1, dropout=0.25),
    # The paper names no sizes: they are those of its code.
    "cnn-lpa": Sizes(kernel=3, padding=1),
    # The paper names the kinds of layers alone: the sizes are those of PyTorch's MNIST example, which has the same.
    "cnn-mixtailor": Sizes(kernel=5, dropout=0.5, drops_channels=True),
    # The paper names the kinds of layers alone: sizes and dropout are those of its code.
    "cnn-lasa": Sizes(kernel=5, padding=2, dropout=0.5),
}
BUILDERS: dict[str, Callable[[DatasetSpec], nn.Module]] = {
    "softmax": _softmax,
    **{name: partial(_from_layers, name, sizes=sizes) for name, sizes in SIZES.items()},
    "resnet18": _resnet18,
    "resnet18-group": partial(_resnet18, norm=partial(nn.GroupNorm, 32)),
    "lstm": lambda spec: CharacterLSTM(spec.num_classes),
}
