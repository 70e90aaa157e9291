"""A round's updates: n rows of d columns, read block by block and never held as an (n, d) copy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.devices import CPU, Device
from flwr_robust.sources import FloatArray as FloatArray
from flwr_robust.sources import Part

Layers = Sequence[tuple[str, int | Sequence[int]]] | Mapping[str, int | Sequence[int]]


@dataclass(frozen=True)
class Layer:
    """One array of the model: its name, shape, and the columns ``start:stop`` that it fills."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.stop - self.start


def make_layers(layers: Layers | None, d: int) -> tuple[Layer, ...]:
    """Turn ``[(name, shape or size), ...]`` in column order into `Layer` objects that cover d columns.

    Raises
    ------
    ValueError
        If the sizes do not add up to d, or a size is negative.
    """
    if layers is None:
        return (Layer("all", (d,), 0, d),)
    pairs = layers.items() if isinstance(layers, Mapping) else layers
    made: list[Layer] = []
    start = 0
    for name, shape in pairs:
        dims = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(s) for s in shape)
        if any(s < 0 for s in dims):
            raise ValueError(f"layer {name!r} has the shape {dims}; give sizes of 0 or more.")
        made.append(Layer(str(name), dims, start, start + prod(dims)))
        start += prod(dims)
    if start != d:
        raise ValueError(
            f"the layers hold {start} values in all, but the rows have {d} columns; "
            "give every layer once, in column order."
        )
    return tuple(made)


def pieces(layers: Sequence[Layer], start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (layer, first, last, position in the block) for the layers that make up columns ``start:stop``.

    ``first:last`` are columns within the layer.
    """
    at = max(bisect_right(layers, start, key=lambda layer: layer.start) - 1, 0)
    while at < len(layers) and layers[at].start < stop:
        layer = layers[at]
        first, last = max(start, layer.start), min(stop, layer.stop)
        if last > first:
            yield at, first - layer.start, last - layer.start, first - start
        at += 1


class Updates(ABC):
    """n updates of d columns that the engine reads in blocks of columns.

    Attributes
    ----------
    n, d : int
        Number of rows and columns.
    dtype : numpy.dtype
        What `read` delivers: float32 or float64.
    layers : tuple of Layer
        The model's arrays, in column order.
    device : Device
        Where passes work on them: by default the CPU.
    tensor : torch tensor or None
        What holds them, where one does.
    """

    n: int
    d: int
    dtype: np.dtype[Any]
    layers: tuple[Layer, ...]
    device: Device = CPU
    tensor: Any = None

    @abstractmethod
    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """Copy columns ``start:stop`` of `rows` (all of them by default) into ``out[:, :stop - start]``."""

    def accumulate(
        self,
        start: int,
        stop: int,
        weights: NDArray[np.float64],
        out: NDArray[np.float64],
        squares: NDArray[np.float64] | None = None,
    ) -> None:
        """Add ``weights @ rows`` of the columns ``start:stop`` to `out`, and the rows' squares to `squares`.

        Rows without weight are only read for their squares.
        """
        from flwr_robust import kernels

        block = np.empty((1, stop - start), self.dtype)
        for row in range(self.n) if squares is not None else np.flatnonzero(weights).tolist():
            self.read(start, stop, block, [row])
            found = kernels.add_weighted(block[0], weights[row], out)
            if squares is not None:
                squares[row] += found

    def tensor_block(self, start: int, stop: int, device: Any) -> Any:
        """Return columns ``start:stop`` on this torch.device, where a `tensor` holds them: a view if they lie there."""
        raise NotImplementedError

    @abstractmethod
    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """Return a copy of these columns (ascending) of all rows, (n, len(columns))."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> Updates:
        """Return these rows alone, still as views."""


class WholeRows(Updates):
    """Updates whose rows are one array each."""

    def __init__(self, rows: Sequence[FloatArray], d: int, dtype: np.dtype[Any], layers: Layers | None) -> None:
        self.n, self.d = len(rows), d
        self.dtype = np.dtype(np.float64 if dtype == np.float64 else np.float32)
        self.layers = make_layers(layers, self.d)
        self._part = Part(rows, None, self.dtype)

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        self._part.read(start, stop, rows, out, 0)

    def accumulate(
        self,
        start: int,
        stop: int,
        weights: NDArray[np.float64],
        out: NDArray[np.float64],
        squares: NDArray[np.float64] | None = None,
    ) -> None:
        """See `Updates.accumulate`."""
        self._part.accumulate(start, stop, weights, out, squares)


class DenseUpdates(WholeRows):
    """Updates that are an (n, d) NumPy array already."""

    def __init__(self, matrix: FloatArray, layers: Layers | None = None) -> None:
        super().__init__(list(matrix), matrix.shape[1], matrix.dtype, layers)
        self.matrix = matrix

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        return self.matrix[:, columns].astype(self.dtype, copy=False)

    def select(self, rows: Sequence[int]) -> DenseUpdates:
        """See `Updates.select`; the one place that copies rows, for inputs that a rule rejects in part."""
        chosen = DenseUpdates(self.matrix[list(rows)])
        chosen.layers = self.layers
        return chosen


class RowUpdates(WholeRows):
    """Updates that are separate 1-D arrays, in the dtype of the first."""

    def __init__(self, rows: Sequence[FloatArray], layers: Layers | None = None) -> None:
        super().__init__(rows, rows[0].size, rows[0].dtype, layers)
        self.rows = rows

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        return self._part.take(columns)

    def select(self, rows: Sequence[int]) -> RowUpdates:
        """See `Updates.select`."""
        chosen = RowUpdates([self.rows[row] for row in rows])
        chosen.layers = self.layers
        return chosen


class TorchUpdates(Updates):
    """Updates that are an (n, d) tensor: on CUDA passes work there, elsewhere blocks come to the CPU one at a time."""

    def __init__(self, tensor: Any, layers: Layers | None = None) -> None:
        import torch

        from flwr_robust.torch_device import device_of

        self.tensor, self.device = tensor.detach(), device_of(tensor)
        self.n, self.d = tensor.shape
        self.wide = tensor.dtype == torch.float64
        self.dtype = np.dtype(np.float64 if self.wide else np.float32)
        self.layers = make_layers(layers, self.d)

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        block = self.tensor[:, start:stop] if rows is None else self.tensor[list(rows), start:stop]
        block = block.double() if self.wide else block.float()
        out[:, : stop - start] = block.cpu().numpy()

    def tensor_block(self, start: int, stop: int, device: Any) -> Any:
        """See `Updates.tensor_block`."""
        import torch

        return self.tensor[:, start:stop].to(device, torch.float64 if self.wide else torch.float32)

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        import torch

        block = self.tensor[:, torch.from_numpy(columns).to(self.tensor.device)]
        taken: FloatArray = (block.double() if self.wide else block.float()).cpu().numpy()
        return taken

    def select(self, rows: Sequence[int]) -> TorchUpdates:
        """See `Updates.select`."""
        chosen = TorchUpdates(self.tensor[list(rows)])
        chosen.layers = self.layers
        return chosen


class ReplyUpdates(Updates):
    """Updates of n replies: flat views of their arrays, minus the model that was sent.

    Parameters
    ----------
    replies : sequence of sequence of 1-D arrays
        One flat view for each reply and layer; not copied.
    model : sequence of 1-D arrays, or None
        The global model's flat arrays, or None where the replies are the updates themselves.
    layers : tuple of Layer
        Names and columns of the arrays.
    """

    def __init__(
        self,
        replies: Sequence[Sequence[FloatArray]],
        model: Sequence[FloatArray] | None,
        layers: tuple[Layer, ...],
    ) -> None:
        self.replies = replies
        self.model = model
        self.layers = layers
        self.n = len(replies)
        self.d = layers[-1].stop if layers else 0
        double = any(array.dtype == np.float64 for reply in replies[:1] for array in reply)
        self.dtype = np.dtype(np.float64 if double else np.float32)
        self._parts = [
            Part([reply[place] for reply in replies], None if model is None else model[place], self.dtype)
            for place in range(len(layers))
        ]

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`; a hostile infinity or NaN is found by what the block's squares sum up to."""
        for layer, first, last, at in pieces(self.layers, start, stop):
            self._parts[layer].read(first, last, rows, out, at)

    def accumulate(
        self,
        start: int,
        stop: int,
        weights: NDArray[np.float64],
        out: NDArray[np.float64],
        squares: NDArray[np.float64] | None = None,
    ) -> None:
        """See `Updates.accumulate`: straight from the replies' bytes, without a copy."""
        for layer, first, last, at in pieces(self.layers, start, stop):
            self._parts[layer].accumulate(first, last, weights, out[at : at + last - first], squares)

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        taken = np.empty((self.n, len(columns)), self.dtype)
        for part, layer in zip(self._parts, self.layers, strict=True):
            first, last = np.searchsorted(columns, [layer.start, layer.stop])
            if last > first:
                taken[:, first:last] = part.take(columns[first:last] - layer.start)
        return taken

    def select(self, rows: Sequence[int]) -> ReplyUpdates:
        """See `Updates.select`."""
        return ReplyUpdates([self.replies[row] for row in rows], self.model, self.layers)


class StackedUpdates(Updates):
    """Updates with further vectors below them, such as what a rule remembers."""

    def __init__(self, updates: Updates, below: Sequence[FloatArray]) -> None:
        self.updates, self.below = updates, below
        self.n, self.d = updates.n + len(below), updates.d
        self.dtype, self.layers = updates.dtype, updates.layers
        self.device, self.tensor = updates.device, updates.tensor
        self._below = Part(below, None, self.dtype)

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        chosen = range(self.n) if rows is None else rows
        above = [row for row in chosen if row < self.updates.n]
        if above:
            self.updates.read(start, stop, out[: len(above)], None if rows is None else above)
        for position, row in enumerate(chosen):
            if row >= self.updates.n:
                out[position, : stop - start] = self.below[row - self.updates.n][start:stop]

    def tensor_block(self, start: int, stop: int, device: Any) -> Any:
        """See `Updates.tensor_block`."""
        import torch

        above = self.updates.tensor_block(start, stop, device)
        below = [torch.from_numpy(vector[start:stop]).to(above) for vector in self.below]
        return torch.vstack([above, *below])

    def accumulate(
        self,
        start: int,
        stop: int,
        weights: NDArray[np.float64],
        out: NDArray[np.float64],
        squares: NDArray[np.float64] | None = None,
    ) -> None:
        """See `Updates.accumulate`."""
        n = self.updates.n
        self.updates.accumulate(start, stop, weights[:n], out, None if squares is None else squares[:n])
        self._below.accumulate(start, stop, weights[n:], out, None if squares is None else squares[n:])

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        return np.vstack([self.updates.take(columns), *(vector[columns] for vector in self.below)])

    def select(self, rows: Sequence[int]) -> StackedUpdates:
        """See `Updates.select`; the vectors below stay."""
        return StackedUpdates(self.updates.select(rows), self.below)
