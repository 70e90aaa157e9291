"""The papers' models, in PyTorch, all with log-softmax outputs (see `simulations.config.catalog.MODELS`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import nn

from simulations.config.catalog import DATASETS, DatasetSpec, resolve_model


def build_model(model: str, dataset: str, seed: int | None = None) -> nn.Module:
    """Build a model for a data set.

    Parameters
    ----------
    model : str
        A name of `simulations.config.catalog.MODELS`, or ``auto`` for the data set's own.
    dataset : str
        A name of `simulations.config.catalog.DATASETS`.
    seed : int, optional
        Of the initial parameters.

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


def _softmax(spec: DatasetSpec) -> nn.Module:
    linear = nn.Linear(prod(spec.shape), spec.num_classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linear, nn.LogSoftmax(dim=1))


def _mlp(spec: DatasetSpec, hidden: tuple[int, ...]) -> nn.Module:
    sizes = (prod(spec.shape), *hidden)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], spec.num_classes), nn.LogSoftmax(dim=1))


def _cnn_mnist(spec: DatasetSpec) -> nn.Module:
    # NNM and ARC print a second C(20), but their 431,080 parameters are those of C(50).
    return nn.Sequential(
        nn.Conv2d(1, 20, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 4 * 4, 500),
        nn.ReLU(),
        nn.Linear(500, spec.num_classes),
        nn.LogSoftmax(dim=1),
    )


def _cnn_cifar10(spec: DatasetSpec) -> nn.Module:
    return nn.Sequential(
        *_conv_block(3, 64),
        *_conv_block(64, 64),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        *_conv_block(64, 128),
        *_conv_block(128, 128),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(128 * 8 * 8, 128),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(128, spec.num_classes),
        nn.LogSoftmax(dim=1),
    )


def _conv_block(channels_in: int, channels_out: int) -> list[nn.Module]:
    # The papers' note says 5x5 without padding; their 1,310,922 parameters need 3x3 with padding 1.
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(channels_out),
    ]


def _cnn_lpa(spec: DatasetSpec) -> nn.Module:
    # The paper names no sizes: they are those of its code.
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 128),
        nn.ReLU(),
        nn.Linear(128, spec.num_classes),
        nn.LogSoftmax(dim=1),
    )


def _cnn_mixtailor(spec: DatasetSpec) -> nn.Module:
    # The paper tells the kinds of layers alone: the sizes are those of PyTorch's MNIST example, which has the same.
    channels, side = spec.shape[0], (spec.shape[1] - 12) // 4
    return nn.Sequential(
        nn.Conv2d(channels, 10, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, kernel_size=5),
        nn.Dropout2d(0.5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * side * side, 50),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(50, spec.num_classes),
        nn.LogSoftmax(dim=1),
    )


def _cnn_lasa(spec: DatasetSpec) -> nn.Module:
    # The paper tells the kinds of layers alone: sizes and dropout are those of its code.
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, spec.num_classes),
        nn.LogSoftmax(dim=1),
    )


def _resnet18(spec: DatasetSpec, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
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


BUILDERS: dict[str, Callable[[DatasetSpec], nn.Module]] = {
    "softmax": _softmax,
    "mlp-small": partial(_mlp, hidden=(50,)),
    "mlp": partial(_mlp, hidden=(50, 50)),
    "cnn-mnist": _cnn_mnist,
    "cnn-cifar10": _cnn_cifar10,
    "cnn-lpa": _cnn_lpa,
    "cnn-mixtailor": _cnn_mixtailor,
    "cnn-lasa": _cnn_lasa,
    "resnet18": _resnet18,
    "resnet18-group": partial(_resnet18, norm=partial(nn.GroupNorm, 32)),
    "lstm": lambda spec: CharacterLSTM(spec.num_classes),
}
