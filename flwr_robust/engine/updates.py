"""A round's updates: n rows of d columns, read block by block where they lie and never held as an (n, d) copy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Device, FloatArray, Sums
from flwr_robust.engine.kernels import blocks as kernels

Layers = Sequence[tuple[str, int | Sequence[int]]] | Mapping[str, int | Sequence[int]]


class Span(Protocol):
    """Some columns."""

    @property
    def start(self) -> int:
        """The first one."""

    @property
    def stop(self) -> int:
        """The one behind the last."""


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


def pieces(spans: Sequence[Span], start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (place, first, last, position in the block) for the spans that make up columns ``start:stop``.

    ``first:last`` are columns within the span.
    """
    place = max(bisect_right(spans, start, key=lambda span: span.start) - 1, 0)
    while place < len(spans) and spans[place].start < stop:
        span = spans[place]
        first, last = max(start, span.start), min(stop, span.stop)
        if last > first:
            yield place, first - span.start, last - span.start, first - start
        place += 1


class Part:
    """The arrays that hold the same columns of each row, and what is subtracted from them.

    Parameters
    ----------
    start : int
        The first of the columns.
    rows : sequence of 1-D float arrays
        One for each row; not copied.
    bases : sequence of 1-D float arrays or None
        What is subtracted from each row; None where the row is an update itself.
    dtype : dtype
        What is read: float32 or float64.
    """

    def __init__(
        self, start: int, rows: Sequence[FloatArray], bases: Sequence[FloatArray | None], dtype: np.dtype[Any]
    ) -> None:
        self.rows, self.bases, self.dtype = rows, bases, dtype
        self.start, self.stop = start, start + (rows[0].size if rows else 0)
        # Half precision, or an array that is not in one piece: such parts are read row by row.
        self.plain = all(_is_plain(row, dtype) for row in rows) and all(
            base is None or _is_plain(base, dtype) for base in _different(bases)
        )
        if self.plain:
            places = {id(base): 0 if base is None else address_of(base) for base in _different(bases)}
            self._addresses = np.array([address_of(row) for row in rows], dtype=np.uint64)
            self._bases = np.array([places[id(base)] for base in bases], dtype=np.uint64)

    def read(self, first: int, last: int, which: Sequence[int] | None, out: FloatArray, at: int) -> None:
        """Copy the columns ``first:last`` of some rows (all by default) to column `at` of ``out`` (rows, columns)."""
        if self.plain:
            chosen = slice(None) if which is None else np.asarray(which, dtype=np.intp)
            kernels.read_rows(self._addresses[chosen], self._bases[chosen], first, last - first, out, at)
            return
        for place, row in enumerate(range(len(self.rows)) if which is None else which):
            out[place, at : at + last - first] = self._piece(row, first, last)

    def accumulate(self, first: int, last: int, weights: Sums, out: Sums, squares: Sums | None) -> None:
        """Add ``weights @ rows`` of the columns ``first:last`` to `out`, and the rows' squares to `squares`.

        Rows without weight are only read for their squares.
        """
        which = np.arange(len(weights)) if squares is not None else np.flatnonzero(weights)
        found = np.zeros(len(which))
        if self.plain:
            like = np.empty(0, self.dtype)
            places = (self._addresses[which], self._bases[which])
            kernels.weigh_rows(*places, first, last - first, weights[which], like, out, found)
        else:
            for place, row in enumerate(which.tolist()):
                found[place] = kernels.add_weighted(self._piece(row, first, last), weights[row], out)
        if squares is not None:
            squares[which] += found

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """Return a copy of these columns of all rows."""
        taken = np.empty((len(self.rows), len(columns)), self.dtype)
        based = {id(base): base[columns] for base in _different(self.bases) if base is not None}
        for out, row, base in zip(taken, self.rows, self.bases, strict=True):
            out[:] = row[columns]
            if base is not None:
                with np.errstate(invalid="ignore", over="ignore"):
                    out -= based[id(base)]
        return taken

    def _piece(self, row: int, first: int, last: int) -> FloatArray:
        values, base = self.rows[row][first:last], self.bases[row]
        if base is None:
            return values.astype(self.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            # Without the dtype, half-precision arrays would be subtracted in half precision.
            return np.asarray(np.subtract(values, base[first:last], dtype=self.dtype))


def _different(bases: Sequence[FloatArray | None]) -> list[FloatArray | None]:
    """Return each base once: most rows share theirs."""
    return list({id(base): base for base in bases}.values())


def _is_plain(array: FloatArray, dtype: np.dtype[Any]) -> bool:
    return array.dtype == dtype and array.dtype.isnative and array.flags.c_contiguous and array.flags.aligned


def address_of(array: NDArray[Any]) -> int:
    """Return the address of an array's first value, for compiled loops."""
    return int(array.__array_interface__["data"][0])


class Updates:
    """n updates of d columns that the engine reads in blocks of columns.

    Parameters
    ----------
    parts : sequence of Part
        What holds the columns, in their order; not copied.
    n : int
        Number of rows.
    layers : tuple of Layer
        The model's arrays, in column order.
    dtype : numpy.dtype
        What `read` delivers: float32 or float64.

    Attributes
    ----------
    d : int
        Number of columns.
    device, home : Device
        Where passes work on them, and where they lie: by default the CPU.
    mixings : tuple of (m, n) float64 arrays
        What passes mix the rows by, one after the other, before they do anything else with them.
    """

    device: Device = CPU
    home: Device = CPU
    mixings: tuple[NDArray[np.float64], ...] = ()

    def __init__(self, parts: Sequence[Part], n: int, layers: tuple[Layer, ...], dtype: np.dtype[Any]) -> None:
        self.parts, self.n, self.layers, self.dtype = parts, n, layers, dtype
        self.d = layers[-1].stop if layers else 0

    @classmethod
    def of_rows(cls, rows: Sequence[FloatArray], layers: Layers | None = None) -> Updates:
        """Return updates that are the rows of a matrix, or separate 1-D arrays, in the dtype of the first."""
        d = rows.shape[1] if isinstance(rows, np.ndarray) else rows[0].size
        dtype = _readable(rows[:1])
        part = Part(0, list(rows), [None] * len(rows), dtype)
        return cls([part], len(rows), make_layers(layers, d), dtype)

    @classmethod
    def of_replies(
        cls,
        replies: Sequence[Sequence[NDArray[Any]]],
        models: Sequence[Sequence[NDArray[Any] | None]],
        layers: tuple[Layer, ...],
        dtype: np.dtype[Any],
    ) -> Updates:
        """Return what replies changed: flat views of their arrays, minus what each node was sent.

        Parameters
        ----------
        replies : sequence of sequence of 1-D arrays
            One flat view for each reply and layer.
        models : sequence of sequence of 1-D arrays or None
            Likewise what is subtracted; None where the array is an update itself. Most rows share theirs.
        layers : tuple of Layer
            Names and columns of the arrays.
        dtype : numpy.dtype
            What is read: float32 or float64.
        """
        parts = [
            Part(layer.start, [row[place] for row in replies], [model[place] for model in models], dtype)
            for place, layer in enumerate(layers)
        ]
        return cls(parts, len(replies), layers, dtype)

    def stacked(self, vectors: Sequence[FloatArray]) -> Updates:
        """Return the same updates with further vectors (d,) below them, such as what a rule remembers."""
        own = [np.asarray(vector, self.dtype) for vector in vectors]
        parts = [
            Part(
                part.start,
                [*part.rows, *(vector[part.start : part.stop] for vector in own)],
                [*part.bases, *[None] * len(own)],
                self.dtype,
            )
            for part in self.parts
        ]
        stacked = Updates(parts, self.n + len(own), self.layers, self.dtype)
        stacked.device = self.device
        return stacked

    @property
    def count(self) -> int:
        """Number of rows behind the mixing."""
        return len(self.mixings[-1]) if self.mixings else self.n

    def mixed(self, mixing: NDArray[np.float64]) -> Updates:
        """Return the same updates, whose rows passes mix first: their distances are those of the rows that come out.

        In a Gram matrix, what cancels in a mixed row leaves nothing but rounding.
        """
        mixed = copy(self)
        mixed.mixings = (*self.mixings, mixing)
        return mixed

    def unmixed(self) -> Updates:
        """Return the rows as they came."""
        raw = copy(self)
        raw.mixings = ()
        return raw

    def read(self, start: int, stop: int, out: FloatArray, rows: Sequence[int] | None = None) -> None:
        """Copy columns ``start:stop`` of `rows` (all of them by default) into ``out[:, :stop - start]``.

        A hostile infinity or NaN is found by what the block's squares sum up to.
        """
        for place, first, last, at in pieces(self.parts, start, stop):
            self.parts[place].read(first, last, rows, out, at)

    def accumulate(self, start: int, stop: int, weights: Sums, out: Sums, squares: Sums | None = None) -> None:
        """Add ``weights @ rows`` of the columns ``start:stop`` to `out`, and the rows' squares to `squares`.

        Straight from where the rows lie, without a copy.
        """
        for place, first, last, at in pieces(self.parts, start, stop):
            self.parts[place].accumulate(first, last, weights, out[at : at + last - first], squares)

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """Return a copy of these columns (ascending) of all rows, (n, len(columns))."""
        taken = np.empty((self.n, len(columns)), self.dtype)
        for part in self.parts:
            first, last = np.searchsorted(columns, [part.start, part.stop])
            if last > first:
                taken[:, first:last] = part.take(columns[first:last] - part.start)
        return taken


def _readable(arrays: Sequence[FloatArray]) -> np.dtype[Any]:
    """Return the dtype that these arrays are read in: half precision as float32."""
    return np.dtype(np.float64 if any(array.dtype == np.float64 for array in arrays) else np.float32)
