"""Passes over the data: all columns once, in blocks, over threads; and the first one, which measures.

`measure` gives norms or a Gram matrix of updates, in float64. Rows whose spread is under a thousandth of their norm are
measured a second time, relative to one of them: otherwise their distances would drown in rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.cpu import Worker, for_blocks
from flwr_robust.engine.device import Block, Device, FloatArray, Matrix, Weights
from flwr_robust.engine.updates import Updates

T = TypeVar("T")
# Takes a block, which it may overwrite, its first column, and what has been found so far, which it adds to.
BlockFunction = Callable[[Block, int, T], None]
Merge = Callable[[T, T], None]

# Squared spread over squared norm under which distances are measured again from within the rows.
CLOSE = 1e-6
# Squares of float64 values outside this range may over- or underflow.
TINY, HUGE = 1e-280, 1e280
# Units within which one over a unit is neither zero nor infinite.
SMALLEST_UNIT, LARGEST_UNIT = 1e-300, 1e300


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


class Needs(IntEnum):
    """What a stage must know of its rows before it can plan."""

    NOTHING = 0
    NORMS = 1
    DISTANCES = 2


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


# ---------------------------------------------------------------- measuring


class Measured(NamedTuple):
    """What is known of rows before a chain plans.

    Attributes
    ----------
    gram : (m + 1, m + 1) float64 array
        Inner products of the rows (behind their own mixing, if any) and, last, of the origin, each taken relative to
        one common reference point; of norms alone, and of nothing, only the diagonal.
    unit : float
        What the rows are multiples of.
    needs : Needs
        What was measured.
    norms : (n,) float64 array or None
        Norms of the rows as they came; None where nothing was needed.
    passes : int
        How many passes that took.
    """

    gram: Matrix
    unit: float
    needs: Needs
    norms: NDArray[np.float64] | None
    passes: int


def measure(updates: Updates, needs: Needs = Needs.DISTANCES, threads: int | None = None) -> Measured:
    """Measure the rows as far as it is needed.

    Raises
    ------
    NonFiniteRowsError
        If rows hold NaN or infinity, and anything is needed.
    """
    count = updates.count
    if needs is Needs.NOTHING:
        return Measured(np.zeros((count + 1, count + 1)), 1.0, needs, None, 0)
    raw = np.zeros(updates.n) if updates.mixings else None
    find = _gram if needs is Needs.DISTANCES else _squares
    gram, passes, unit = find(updates, threads, raw=raw), 1, 1.0
    # Rows that are not finite are named before what was mixed of them is looked at.
    norms = None if raw is None else norms_of(updates, raw, threads)
    if not _within_range(gram.diagonal()[:count], updates):
        unit = _unit(updates, gram.diagonal()[:count], threads)
        gram, passes = find(updates, threads, unit), passes + 2
    if needs is Needs.DISTANCES and count > 1:
        centre, closeness = central_row(gram[:count, :count])
        if closeness < CLOSE:
            gram, passes = _gram(updates, threads, unit, centre), passes + 1
    squares = gram.diagonal() + gram[-1, -1] - 2.0 * gram[-1]
    own = np.sqrt(np.maximum(squares[:count], 0.0)) * unit
    return Measured(gram, unit, needs, own if norms is None else norms, passes)


def _squares(
    updates: Updates, threads: int | None, unit: float = 1.0, raw: NDArray[np.float64] | None = None
) -> Matrix:
    """(n + 1, n + 1) squared norms of the rows in multiples of a unit, and of the origin, on the diagonal."""
    return np.diag(np.append(_sum_squares(updates, threads, unit, raw), 0.0))


def _gram(
    updates: Updates,
    threads: int | None,
    unit: float = 1.0,
    centre: int | None = None,
    raw: NDArray[np.float64] | None = None,
) -> Matrix:
    """(n + 1, n + 1) Gram matrix of the rows in multiples of a unit, relative to one of them; and of the origin."""
    n = updates.count
    mixing = np.eye(n + 1, n)
    if centre is not None:
        mixing[:, centre] -= 1.0
    mixed = None if unit == 1.0 and centre is None else mixing / unit
    # The origin comes last, and may be left out.
    add = lambda block, _, gram: operations.add_gram(block, gram)  # noqa: E731
    upper: Matrix = np.triu(_pass(updates, threads, mixed, raw).read(add, zeros(n + 1, n + 1)))
    return upper + np.triu(upper, 1).T


def _sum_squares(
    updates: Updates, threads: int | None, unit: float = 1.0, raw: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    mixed = None if unit == 1.0 else np.eye(updates.count) / unit
    add = lambda block, _, squares: operations.squared_norms(block, squares)  # noqa: E731
    return _pass(updates, threads, mixed, raw).read(add, zeros(updates.count))


def _pass(
    updates: Updates, threads: int | None, mixing: Matrix | None = None, raw: NDArray[np.float64] | None = None
) -> Pass:
    """Return a pass where the updates are to be worked on, in float64 if it mixes them."""
    dtype = np.float64 if mixing is not None or updates.mixings else None
    return Pass(updates, updates.device, mixing, dtype, threads, squares=raw)


def _within_range(squares: NDArray[np.float64], updates: Updates) -> bool:
    """Whether the sums of squares can be trusted; those of float32 values are too small only if all are zero."""
    if not bool(np.isfinite(squares).all()) or squares.max(initial=0.0) > HUGE:
        return False
    return updates.dtype == np.float32 or not updates.d or bool(squares.max(initial=0.0) > TINY)


def _unit(updates: Updates, squares: NDArray[np.float64], threads: int | None) -> float:
    """Return about the largest absolute value, for scaling; raise NonFiniteRowsError if some are not finite."""
    if updates.dtype == np.float32:
        # No finite float32 has a square that float64 cannot hold.
        raise NonFiniteRowsError(np.flatnonzero(~np.isfinite(squares)).tolist())
    keep = lambda block, _, largest: operations.largest(block, largest)  # noqa: E731
    found = _pass(updates, threads).read(keep, zeros(updates.count), keep_largest)
    if not np.isfinite(found).all():
        raise NonFiniteRowsError(np.flatnonzero(~np.isfinite(found)).tolist())
    largest = float(found.max(initial=0.0))
    return min(max(largest, SMALLEST_UNIT), LARGEST_UNIT) if largest else 1.0


def norms_of(updates: Updates, squares: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Return the rows' norms from their sums of squares, measured again where float64 could not hold those.

    Raises
    ------
    NonFiniteRowsError
        If rows hold NaN or infinity.
    """
    if _within_range(squares, updates):
        return np.sqrt(squares)
    unit = _unit(updates.unmixed(), squares, threads)
    norms: NDArray[np.float64] = np.sqrt(_sum_squares(updates.unmixed(), threads, unit)) * unit
    return norms


def squared_distances(inner: Matrix) -> Matrix:
    """(m, m) squared distances of rows from their inner products: symmetric, zero on the diagonal."""
    squares = inner.diagonal()
    distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * inner, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def central_row(gram: Matrix) -> tuple[int, float]:
    """Return the row that half of the others are closest to, and how close they are.

    Fewer than half of the rows, wherever they are, can neither hide nor feign this by much.

    Parameters
    ----------
    gram : (n, n) float64 array
        Inner products of at least two rows, relative to zero.

    Returns
    -------
    The row, and the squared distance within which half of the others lie over its squared norm
    (1 where that norm is zero).
    """
    closeness = np.sort(squared_distances(gram), axis=1)[:, len(gram) // 2]
    row = int(np.argmin(closeness))
    square = float(gram[row, row])
    return row, float(closeness[row]) / square if square > 0 else 1.0
