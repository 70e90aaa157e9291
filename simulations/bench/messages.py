"""One round's messages, as real nodes would send them, and the same numbers as a plain matrix."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import chain, pairwise
from math import log, prod
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
Matrix = NDArray[np.float32]

SERVER = 1
# Nodes are numbered from here on.
FIRST_NODE = 2
# Below this number of values a model has no room for layers.
LEAST_LAYERED = 1000
# Sizes of the model's parameters and of what a round changes of them.
MODEL_SCALE, STEP_SCALE = 0.05, 0.01


# fmt: off
LENET: Shapes = (
    ("conv1.weight", (20, 1, 5, 5)), ("conv1.bias", (20,)), ("conv2.weight", (50, 20, 5, 5)), ("conv2.bias", (50,)),
    ("fc1.weight", (500, 800)), ("fc1.bias", (500,)), ("fc2.weight", (10, 500)), ("fc2.bias", (10,)),
)
# fmt: on


def _block(name: str, before: int, after: int, size: int, *, bias: bool = False) -> Shapes:
    """Return the arrays of a convolution and its batch normalisation."""
    own = ((f"{name}.bias", (after,)),) if bias else ()
    norm = ((f"{name}.bn.weight", (after,)), (f"{name}.bn.bias", (after,)))
    return (f"{name}.weight", (after, before, size, size)), *own, *norm


def _cifar_cnn() -> Shapes:
    widths = (3, 64, 64, 128, 128)
    blocks = [_block(f"conv{number}", *pair, 3, bias=True) for number, pair in enumerate(pairwise(widths), start=1)]
    head = ("fc1.weight", (128, 128 * 8 * 8)), ("fc1.bias", (128,)), ("fc2.weight", (10, 128)), ("fc2.bias", (10,))
    return (*chain.from_iterable(blocks), *head)


def _resnet18() -> Shapes:
    layers, before = [*_block("stem", 3, 64, 3)], 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            layers += _block(f"layer{stage}.{block}.first", before, width, 3)
            layers += _block(f"layer{stage}.{block}.second", width, width, 3)
            layers += _block(f"layer{stage}.{block}.shortcut", before, width, 1) if before != width else ()
            before = width
    return (*layers, ("fc.weight", (10, 512)), ("fc.bias", (10,)))


# The papers' networks: 431,080 parameters, 1,310,922 and 11,173,962.
MODELS = (LENET, _cifar_cnn(), _resnet18())


def layers_for(d: int) -> Shapes:
    """Return names and shapes of d parameters: those of the model of the nearest size, stretched to d.

    A model that has exactly d parameters comes back as it is. A stretched one keeps the shares of its
    layers; its arrays are (rows, columns) where the model's are matrices or convolutions.
    """
    if d < LEAST_LAYERED:
        return (("weight", (1, d)),)
    model = min(MODELS, key=lambda shapes: abs(log(_size(shapes) / d)))
    factor = d / _size(model)
    if factor == 1:
        return model
    stretched = {name: _stretch(shape, factor) for name, shape in model}
    largest = max(stretched, key=lambda name: prod(stretched[name]))
    rest = d - sum(prod(shape) for name, shape in stretched.items() if name != largest)
    stretched[largest] = (1, rest)
    return tuple(stretched.items())


def _size(shapes: Shapes) -> int:
    return sum(prod(shape) for _, shape in shapes)


def _stretch(shape: tuple[int, ...], factor: float) -> tuple[int, ...]:
    if len(shape) == 1:
        return (max(1, round(shape[0] * factor)),)
    # A matrix keeps its rows, such as the classes of an output layer, as long as there is one value for each.
    rows = min(shape[0], max(2, round(prod(shape) * factor)))
    return (rows, max(1, round(prod(shape) * factor / rows)))


class Problem:
    """A round of training to aggregate: the model that was sent, and n replies of several arrays, f of them malicious.

    The honest updates share a direction and differ by noise; the malicious ones go the other way. `layers` has the
    names and shapes of the model's arrays, `model` the values that were sent, (d,) float32.
    """

    def __init__(self, n: int, d: int, f: int, seed: int = 0) -> None:
        # Messages that are made by hand ask who makes them.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER
        self.n, self.d, self.f = n, d, f
        self.layers = layers_for(d)
        generator = np.random.default_rng(seed)
        self.model = MODEL_SCALE * generator.standard_normal(d, dtype=np.float32)
        direction = generator.standard_normal(d, dtype=np.float32)
        self._sent = self._arrays(self.model)
        self._received = []
        for node in range(n):
            step = generator.standard_normal(d, dtype=np.float32)
            step += (-1.0 if node >= n - f else 0.5) * direction
            self._received.append(self._arrays(self.model + STEP_SCALE * step))

    @property
    def bytes(self) -> int:
        """Size of the replies' values."""
        return self.n * self.d * 4

    @property
    def sent(self) -> ArrayRecord:
        """The model that was sent."""
        return _record(self._sent)

    @property
    def root(self) -> ArrayRecord:
        """What a server has trained on data of its own: the first honest node's model."""
        return _record(self._received[0])

    @property
    def nodes(self) -> list[int]:
        """Ids of the nodes."""
        return list(range(FIRST_NODE, FIRST_NODE + self.n))

    def replies(self) -> list[Message]:
        """Return the replies as new messages: some of Flower's strategies empty those that they are given.

        The values' bytes are the same ones in each call.
        """
        return [
            Message(
                RecordDict(
                    {"arrays": _record(arrays), "metrics": MetricRecord({"num-examples": 10, "train_loss": 0.5})}
                ),
                reply_to=Message(RecordDict({"config": ConfigRecord()}), dst_node_id=node, message_type="train"),
            )
            for node, arrays in zip(self.nodes, self._received, strict=True)
        ]

    def grid(self) -> Grid:
        """Return a grid that these nodes are connected to."""
        return _Nodes(self.nodes)

    def views(self) -> list[list[Matrix]]:
        """Return flat views of the replies' values, one for each node and layer."""
        return [
            [_values(array, prod(shape)) for array, (_, shape) in zip(arrays.values(), self.layers, strict=True)]
            for arrays in self._received
        ]

    @cached_property
    def matrix(self) -> Matrix:
        """The updates, (n, d): what the nodes sent minus the model."""
        rows = np.empty((self.n, self.d), np.float32)
        for row, views in zip(rows, self.views(), strict=True):
            np.concatenate(views, out=row)
            row -= self.model
        return rows

    def update(self, arrays: ArrayRecord) -> NDArray[np.float64]:
        """Return what an aggregated model changed of the one that was sent, (d,)."""
        flat = np.concatenate([np.ravel(arrays[name].numpy()) for name, _ in self.layers])
        return flat.astype(np.float64) - self.model

    def _arrays(self, flat: Matrix) -> dict[str, Array]:
        made, start = {}, 0
        for name, shape in self.layers:
            made[name] = Array(flat[start : start + prod(shape)].reshape(shape))
            start += prod(shape)
        return made


def _record(arrays: dict[str, Array]) -> ArrayRecord:
    """Return a record of the same bytes in new objects."""
    return ArrayRecord({name: Array(a.dtype, a.shape, a.stype, a.data) for name, a in arrays.items()})


def _values(array: Array, size: int) -> Matrix:
    return np.frombuffer(array.data, np.float32, offset=len(array.data) - 4 * size)


class _Nodes(Grid):
    """Connected nodes that nobody sends anything to."""

    def __init__(self, nodes: list[int]) -> None:
        self.nodes = nodes

    def get_node_ids(self) -> Iterable[int]:
        return self.nodes

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the bench's grid only knows which nodes there are.")

    run = property(_refuse)
    set_run = create_message = get_nodes = push_messages = pull_messages = send_and_receive = _refuse
