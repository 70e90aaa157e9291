"""One pass over the data: all columns once, in blocks, over threads, and what was found in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.cpu import Worker, for_blocks
from flwr_robust.engine.device import Block, Device, FloatArray
from flwr_robust.engine.geometry import Matrix, Weights
from flwr_robust.engine.updates import Updates

T = TypeVar("T")
# Takes a block, which it may overwrite, its first column, and what has been found so far, which it adds to.
BlockFunction = Callable[[Block, int, T], None]
Merge = Callable[[T, T], None]


class BadRowsError(ValueError):
    """Some rows cannot be aggregated.

    Attributes
    ----------
    rows : list of int
        Which ones.
    fault : str
        What is wrong with their arrays.
    """

    def __init__(self, rows: Sequence[int], fault: str) -> None:
        self.rows, self.fault = list(rows), fault
        what = fault.removeprefix("the arrays ")
        super().__init__(f"rows {self.rows} {what}; leave such rows out before aggregating.")


class NonFiniteRowsError(BadRowsError):
    """Some rows hold NaN or infinity."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(rows, "the arrays hold NaN or infinity")


@dataclass(frozen=True)
class Pass:
    """How updates are read.

    Parameters
    ----------
    updates : Updates
        Rows, mixed as they say.
    device : Device
        Where their blocks are worked on.
    mixing : array, optional
        Mixes the rows once more.
    dtype : type, optional
        Of the blocks; by default the updates' own.
    threads : int, optional
        See `flwr_robust.engine.cpu.for_blocks`.
    columns : (start, stop), optional
        Only these.
    squares : (n,) float64 array, optional
        Filled with the sums of squares of the rows as they came.
    """

    updates: Updates
    device: Device
    mixing: Matrix | None = None
    dtype: type | None = None
    threads: int | None = None
    columns: tuple[int, int] | None = None
    squares: NDArray[np.float64] | None = None
    mixer: Any = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the mixing of blocks."""
        mixings = [*self.updates.mixings, *(() if self.mixing is None else (self.mixing,))]
        object.__setattr__(self, "mixer", self.device.mixer(mixings) if mixings else None)

    def read(self, function: BlockFunction[T], make: Callable[[int], T], merge: Merge[T] | None = None) -> T:
        """Call a function on each block and return what was found: the same for any number of threads.

        Parameters
        ----------
        function : callable
            Called with a block, its first column, and what has been found in the blocks before it.
        make : callable
            Takes the width of a block, returns what a run of blocks starts with; `zeros` makes arrays.
        merge : callable, optional
            Adds what was found behind to what was found before; by default arrays are summed up.
        """

        def make_both(width: int) -> _Found[T]:
            return make(width), np.zeros(self.updates.n)

        def merge_both(total: _Found[T], found: _Found[T]) -> None:
            (merge or _add)(total[0], found[0])
            _add(total[1], found[1])

        found, squares = self._for_blocks(lambda width: self._reader(function, width), make_both, merge_both)
        if self.squares is not None:
            self.squares[:] = squares
        return found

    def write(self, function: Callable[[Block, Weights], None], vector: FloatArray) -> FloatArray:
        """Fill a vector (d,) with what a function makes of the columns: it takes a block and fills a result."""

        def work(block: Block, start: int, result: Weights) -> None:
            here = result[: block.shape[1]]
            function(block, here)
            vector[start : start + len(here)] = here

        self.read(work, np.empty, nothing_to_merge)
        return vector

    def weigh(self, weights: Weights, vector: FloatArray) -> FloatArray:
        """Fill a vector (d,) with the weighted sum of the rows, which on the CPU are read where they lie."""
        if self.mixer is not None:
            return self.write(lambda block, result: operations.weigh(block, weights, result), vector)
        squares = self._for_blocks(lambda width: self._weigher(weights, vector, width), zeros(self.updates.n), _add)
        if self.squares is not None:
            self.squares[:] = squares
        return vector

    def _for_blocks(self, make_worker: Callable[[int], Worker[T]], make: Callable[[int], T], merge: Merge[T]) -> T:
        return for_blocks(self.updates, make_worker, make, merge, self.threads, self.columns, self.device)

    def _reader(self, function: BlockFunction[T], width: int) -> Worker[_Found[T]]:
        """Return a thread's way through its blocks: it reads one, mixes it, and calls the function on it."""
        feed = self.device.feed(self.updates, width, self.mixer, self.dtype)

        def worker(start: int, stop: int, found: _Found[T]) -> None:
            def work(block: Block) -> None:
                if self.squares is not None:
                    operations.squared_norms(block, found[1])
                with np.errstate(invalid="ignore", over="ignore"):
                    function(feed.mixed(block), start, found[0])

            feed.give(start, stop, work)

        return worker

    def _weigher(self, weights: Weights, vector: FloatArray, width: int) -> Worker[NDArray[np.float64]]:
        """Return a thread's way through its blocks: it weighs the rows where they lie."""
        feed, buffer = self.device.feed(self.updates, width), np.empty(width)

        def worker(start: int, stop: int, squares: NDArray[np.float64]) -> None:
            total = buffer[: stop - start]
            total[:] = 0.0
            feed.weigh(start, stop, weights, total, None if self.squares is None else squares)
            with np.errstate(over="ignore", invalid="ignore"):
                vector[start:stop] = total

        return worker


# What a function has found, and the sums of squares of the rows.
_Found = tuple[T, NDArray[np.float64]]


def zeros(*shape: int, dtype: Any = np.float64) -> Callable[[int], NDArray[Any]]:
    """Return what makes an array of zeros."""
    return lambda width: np.zeros(shape, dtype)


def keep_largest(total: NDArray[Any], found: NDArray[Any]) -> None:
    """Merge largest values."""
    np.maximum(total, found, out=total)


def nothing_to_merge(total: Any, found: Any) -> None:
    """Merge nothing: for a function that writes what it makes of a block itself."""


def _add(total: Any, found: Any) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        total += found
