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

FloatArray = NDArray[np.floating[Any]]
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
    """

    n: int
    d: int
    dtype: np.dtype[Any]
    layers: tuple[Layer, ...]

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
        chosen = range(self.n) if squares is not None else np.flatnonzero(weights).tolist()
        block = np.empty((1, stop - start), self.dtype)
        for row in chosen:
            self.read(start, stop, block, [row])
            _accumulate(block[0], None, row, weights, out, squares)

    @abstractmethod
    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """Return a copy of these columns (ascending) of all rows, (n, len(columns))."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> Updates:
        """Return these rows alone, still as views."""


class DenseUpdates(Updates):
    """Updates that are an (n, d) NumPy array already."""

    def __init__(self, matrix: FloatArray, layers: Layers | None = None) -> None:
        self.matrix = matrix
        self.n, self.d = matrix.shape
        self.dtype = np.dtype(np.float64 if matrix.dtype == np.float64 else np.float32)
        self.layers = make_layers(layers, self.d)

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        block = self.matrix[:, start:stop]
        out[:, : stop - start] = block if rows is None else block[rows]

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        return self.matrix[:, columns].astype(self.dtype)

    def select(self, rows: Sequence[int]) -> DenseUpdates:
        """See `Updates.select`; the one place that copies rows, for inputs that a rule rejects in part."""
        chosen = DenseUpdates(self.matrix[list(rows)])
        chosen.layers = self.layers
        return chosen


class RowUpdates(Updates):
    """Updates that are separate 1-D arrays, in the dtype of the first."""

    def __init__(self, rows: Sequence[FloatArray], layers: Layers | None = None) -> None:
        self.rows = rows
        self.n, self.d = len(rows), rows[0].size
        self.dtype = np.dtype(np.float64 if rows[0].dtype == np.float64 else np.float32)
        self.layers = make_layers(layers, self.d)

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        for position, row in enumerate(range(self.n) if rows is None else rows):
            out[position, : stop - start] = self.rows[row][start:stop]

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        return np.stack([row[columns] for row in self.rows]).astype(self.dtype)

    def select(self, rows: Sequence[int]) -> RowUpdates:
        """See `Updates.select`."""
        chosen = RowUpdates([self.rows[row] for row in rows])
        chosen.layers = self.layers
        return chosen


class TorchUpdates(Updates):
    """Updates that are an (n, d) tensor on any device; blocks come to the CPU one at a time."""

    def __init__(self, tensor: Any, layers: Layers | None = None) -> None:
        import torch

        self.tensor = tensor.detach()
        self.n, self.d = tensor.shape
        self.wide = tensor.dtype == torch.float64
        self.dtype = np.dtype(np.float64 if self.wide else np.float32)
        self.layers = make_layers(layers, self.d)

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        block = self.tensor[:, start:stop] if rows is None else self.tensor[list(rows), start:stop]
        block = block.double() if self.wide else block.float()
        out[:, : stop - start] = block.cpu().numpy()

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

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        chosen = range(self.n) if rows is None else rows
        # A hostile reply may hold infinity or NaN: it is found by what the block sums up to.
        with np.errstate(invalid="ignore", over="ignore"):
            for layer, first, last, at in pieces(self.layers, start, stop):
                sent = None if self.model is None else self.model[layer][first:last]
                for position, row in enumerate(chosen):
                    values = self.replies[row][layer][first:last]
                    target = out[position, at : at + last - first]
                    if sent is None:
                        target[:] = values
                    else:
                        # Without the dtype, half-precision layers would be subtracted in half precision.
                        np.subtract(values, sent, out=target, dtype=self.dtype)

    def accumulate(
        self,
        start: int,
        stop: int,
        weights: NDArray[np.float64],
        out: NDArray[np.float64],
        squares: NDArray[np.float64] | None = None,
    ) -> None:
        """See `Updates.accumulate`: straight from the replies' bytes, without a copy."""
        chosen = range(self.n) if squares is not None else np.flatnonzero(weights).tolist()
        for layer, first, last, at in pieces(self.layers, start, stop):
            sent = None if self.model is None else self._in_dtype(self.model[layer][first:last])
            target = out[at : at + last - first]
            for row in chosen:
                _accumulate(self._in_dtype(self.replies[row][layer][first:last]), sent, row, weights, target, squares)

    def _in_dtype(self, values: FloatArray) -> FloatArray:
        """Return the values in the updates' dtype: half precision must not be subtracted as such."""
        return values if values.dtype == self.dtype else values.astype(self.dtype)

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        taken = np.empty((self.n, len(columns)), self.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            for place, layer in enumerate(self.layers):
                first, last = np.searchsorted(columns, [layer.start, layer.stop])
                mine = columns[first:last] - layer.start
                for row, reply in enumerate(self.replies):
                    taken[row, first:last] = reply[place][mine]
                if self.model is not None:
                    taken[:, first:last] -= self.model[place][mine]
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

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """See `Updates.read`."""
        chosen = range(self.n) if rows is None else rows
        above = [row for row in chosen if row < self.updates.n]
        if above:
            self.updates.read(start, stop, out[: len(above)], None if rows is None else above)
        for position, row in enumerate(chosen):
            if row >= self.updates.n:
                out[position, : stop - start] = self.below[row - self.updates.n][start:stop]

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
        for row, vector in enumerate(self.below, start=n):
            if squares is not None or weights[row]:
                _accumulate(vector[start:stop], None, row, weights, out, squares)

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """See `Updates.take`."""
        return np.vstack([self.updates.take(columns), *(vector[columns] for vector in self.below)])

    def select(self, rows: Sequence[int]) -> StackedUpdates:
        """See `Updates.select`; the vectors below stay."""
        return StackedUpdates(self.updates.select(rows), self.below)


def _accumulate(
    values: FloatArray,
    sent: FloatArray | None,
    row: int,
    weights: NDArray[np.float64],
    out: NDArray[np.float64],
    squares: NDArray[np.float64] | None,
) -> None:
    """Add a weighted piece of a row, minus what was sent, to `out`, and its squares to the row's."""
    from flwr_robust import kernels

    if sent is None:
        found = kernels.add_weighted(values, weights[row], out)
    else:
        found = kernels.add_weighted_change(values, sent, weights[row], out)
    if squares is not None:
        squares[row] += found
