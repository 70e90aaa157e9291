"""The passes over the data: each reads all columns once, in blocks, over threads.

1. `measure` gives a `Geometry`: the Gram matrix of the rows, in float64.
2. A chain plans on it, among n x n numbers, and leaves `Rows`: a mixing map of the updates.
3. What its rule asks of the `Rows` takes one more pass: `combine` for a weighted sum, `reduce` for a function of
   columns, `scan` for anything else.

Rows whose spread is under a thousandth of their norm are measured a second time, relative to one of them: otherwise
their distances would drown in rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.cpu import CPU, for_blocks
from flwr_robust.engine.device import Block, Device, FloatArray
from flwr_robust.engine.geometry import Geometry, Matrix, Needs, Weights, central_row
from flwr_robust.engine.updates import Layer, Updates

T = TypeVar("T")
# Takes a block (rows, columns), which it may overwrite, and fills a result (columns,).
ColumnFunction = Callable[[Block, Weights], None]
# Takes a block, which it may overwrite, its first column, and what the thread has found so far, which it adds to.
BlockFunction = Callable[[Block, int, T], None]

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


# ---------------------------------------------------------------- before a chain plans


class Measured(NamedTuple):
    """What is known of rows before a chain plans.

    Attributes
    ----------
    geometry : Geometry
        Of the rows (behind their own mixing, if any) and the origin, as far as it was needed.
    norms : (n,) float64 array or None
        Norms of the rows as they came; None where nothing was needed.
    passes : int
        How many passes that took.
    """

    geometry: Geometry
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
        return Measured(Geometry(np.zeros((count + 1, count + 1)), measured=needs), None, 0)
    raw = np.zeros(updates.n) if updates.mixings else None
    if needs is Needs.NORMS:
        squares, gram = _sum_squares(updates, threads, raw=raw), None
    else:
        gram = _gram(updates, threads, raw=raw)
        squares = gram.diagonal()[:count]
    # Rows that are not finite are named before what was mixed of them is looked at.
    norms = None if raw is None else norms_of(updates, raw, threads)
    passes, unit = 1, 1.0
    if not _within_range(squares, updates):
        unit = _unit(updates, squares, threads)
        passes += 2
        if gram is None:
            squares = _sum_squares(updates, threads, unit)
        else:
            gram = _gram(updates, threads, unit)
    if gram is None:
        geometry = Geometry(np.diag(np.append(squares, 0.0)), unit=unit, measured=needs)
    else:
        if count > 1:
            centre, closeness = central_row(gram[:count, :count])
            if closeness < CLOSE:
                gram, passes = _gram(updates, threads, unit, centre), passes + 1
        geometry = Geometry(gram, unit=unit)
    return Measured(geometry, geometry.norms * unit if norms is None else norms, passes)


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
    upper = np.triu(add_up(read(updates, add, zeros(n + 1, n + 1), threads, mixing=mixed, raw=raw)))
    return upper + np.triu(upper, 1).T


def _sum_squares(
    updates: Updates, threads: int | None, unit: float = 1.0, raw: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    mixed = None if unit == 1.0 else np.eye(updates.count) / unit
    add = lambda block, _, squares: operations.squared_norms(block, squares)  # noqa: E731
    return add_up(read(updates, add, zeros(updates.count), threads, mixing=mixed, raw=raw))


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
    found = np.max(read(updates, keep, zeros(updates.count), threads), axis=0)
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
    return np.sqrt(_sum_squares(updates.unmixed(), threads, unit)) * unit


# ---------------------------------------------------------------- after a chain has planned


class Rows:
    """m rows that are linear combinations of n updates, and of the vectors that a rule remembers.

    Parameters
    ----------
    points : Updates
        The updates and, below them, those of the remembered vectors that were measured with them.
    geometry : Geometry
        Norms and distances of the m rows, as far as the chain said that it needs them.
    n, vectors : int
        Numbers of updates and of vectors.
    remembered : mapping of str to array, optional
        What the rule keeps between calls, by name.
    mixed : bool
        Whether the rows differ from the updates, or may.
    norms : (n,) float64 array, optional
        Norms of the updates, where they are known.
    passes : int
        Passes over the data so far, those of the measuring included.
    threads : int, optional
        See `flwr_robust.engine.cpu.for_blocks`.
    generator : callable
        Returns the generator of a rule that draws at random.

    Attributes
    ----------
    weights : (n,) float64 array or None
        Weights of the updates in the aggregate; None unless `combine` made it.
    used : (n,) float64 array or None
        Share of the layers in which each update counted; None unless the rule told it to `count_in`.
    norms : (n,) float64 array or None
        Norms of the updates; known after the first pass over all columns.
    noted : dict of str to array
        What the rule will remember once nothing can fail any more.
    """

    def __init__(
        self,
        points: Updates,
        geometry: Geometry,
        n: int,
        vectors: int = 0,
        *,
        remembered: Mapping[str, NDArray[Any]] | None = None,
        mixed: bool = True,
        norms: NDArray[np.float64] | None = None,
        passes: int = 0,
        threads: int | None = None,
        generator: Callable[[], np.random.Generator] = np.random.default_rng,
    ) -> None:
        self.points, self.geometry, self.n, self.vectors = points, geometry, n, vectors
        self.mixed, self.generator = mixed, generator
        self.norms, self.passes, self.threads = norms, passes, threads
        self.remembered: Mapping[str, NDArray[Any]] = remembered or {}
        self.noted: dict[str, NDArray[Any]] = {}
        self.weights: Weights | None = None
        self.used: Weights | None = None

    @property
    def count(self) -> int:
        """Number of rows, m."""
        return self.geometry.count

    @property
    def d(self) -> int:
        """Number of columns."""
        return self.points.d

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The model's arrays, in column order."""
        return self.points.layers

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the updates: float32 or float64."""
        return self.points.dtype

    def remember(self, **values: NDArray[Any]) -> None:
        """Note what the rule keeps for its next call, under names that its class `remembers`.

        It is stored, as a copy, once nothing can fail any more.
        """
        self.noted |= values

    def with_remembered(self) -> Geometry:
        """Return the geometry of the m rows and, below them, the vectors that were measured with them."""
        affine, points = self.geometry.affine, len(self.geometry.gram)
        below = np.eye(points)[points - 1 - self.vectors : points - 1]
        return Geometry(self.geometry.gram, np.vstack([affine, below]), self.geometry.unit, self.geometry.measured)

    def combine(self, weights: Weights) -> FloatArray:
        """Return the weighted sum (d,) of the m rows, or of the m rows and the k vectors of `with_remembered`.

        Parameters
        ----------
        weights : (m,) or (m + k,) float64 array
        """
        affine = self.geometry.affine if len(weights) == self.count else self.with_remembered().affine
        of_points = weights @ affine[:, :-1]
        self.weights = self._of_updates(of_points)
        vector, squares = self._combine(of_points, self.points.dtype, self.points.device, self.norms is None)
        self._after(squares)
        return vector

    def row(self, index: int) -> FloatArray:
        """Return a copy of one of the m rows in full, (d,): float64 if it is mixed; not counted as a pass.

        It is made where the updates lie: to send them elsewhere takes longer.
        """
        dtype = np.float64 if self.mixed else self.points.dtype
        return self._combine(self.geometry.affine[index, :-1], dtype, self.points.home)[0]

    def _combine(
        self, weights: Weights, dtype: Any, device: Device, sum_squares: bool = False
    ) -> tuple[FloatArray, list[NDArray[np.float64]]]:
        """Return the weighted sum of the points, and the updates' squares as each thread summed them up."""
        vector, points = np.empty(self.d, dtype), self.points

        def worker(width: int) -> _Combine | _Reader[Weights]:
            if not points.mixings:
                return _Combine(points, weights, vector, width, sum_squares, device)
            return _Reader(
                points, width, weigh, np.empty(width), device.mixer(points.mixings), np.float64, device, sum_squares
            )

        def weigh(block: Block, start: int, total: Weights) -> None:
            here = total[: block.shape[1]]
            operations.weigh(block, weights, here)
            vector[start : start + len(here)] = here

        workers = for_blocks(points, worker, self.threads, device=device)
        return vector, [each.squares for each in workers]

    def _of_updates(self, of_points: NDArray[Any]) -> NDArray[Any]:
        """Return what weights of the points (..., p) come to as weights of the n updates."""
        for mixing in reversed(self.points.mixings):
            of_points = of_points @ mixing
        return of_points[..., : self.n]

    def reduce(self, function: ColumnFunction, select: Matrix | None = None, *, tensors: bool = False) -> FloatArray:
        """Return the (d,) results of a function of columns of the rows.

        Parameters
        ----------
        function : callable
            Takes a block (m, columns), which it may overwrite, and fills a result (columns,).
        select : (m', m) float64 array, optional
            The function gets ``select @ rows`` in place of the rows.
        tensors : bool
            Whether the function takes torch tensors too; otherwise the pass runs on the CPU, wherever others do.
        """
        mixing = self._mixing
        if select is not None:
            mixing = select @ self.geometry.mixing
            self.count_in((select != 0.0).any(axis=0).reshape(-1, 1))
        device = self.points.device if tensors else CPU
        vector = np.empty(self.d, self.dtype)

        def reduce(block: Block, start: int, result: Weights) -> None:
            here = result[: block.shape[1]]
            function(block, here)
            vector[start : start + len(here)] = here

        self._read(reduce, np.empty, mixing, device)
        return vector

    def scan(
        self,
        function: BlockFunction[T],
        make: Callable[[int], T],
        *,
        dtype: type | None = None,
        columns: tuple[int, int] | None = None,
    ) -> list[T]:
        """Read the rows once, on the CPU, and return what the threads found, in a fixed order.

        Parameters
        ----------
        function : callable
            Called with a block of the m rows, which it may overwrite, its first column, and what its thread has found
            so far, which it adds to.
        make : callable
            Takes the width of a block, and makes what a thread starts with; `zeros` makes arrays.
        dtype : type, optional
            Of the blocks; by default the updates'.
        columns : (start, stop), optional
            Only these columns.
        """
        return self._read(function, make, self._mixing, CPU, dtype, columns)

    def take(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return these columns (ascending) of the m rows, (m, len(columns)); only they are read."""
        taken = self.points.take(columns).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(taken).all(axis=1))
        if bad.size:
            raise NonFiniteRowsError(bad.tolist())
        for mixing in self.points.mixings:
            taken = mixing @ taken
        return self.geometry.mixing @ taken if self.mixed else taken

    def count_in(self, kept: NDArray[np.bool_]) -> None:
        """Say which of the m rows count in which layer, (m, layers): an update counts where such a row holds it."""
        holds = self._of_updates(np.abs(self.geometry.mixing)) != 0.0
        counted = (holds.T.astype(np.int64) @ kept) > 0
        self.used = counted.mean(axis=1)

    @property
    def _mixing(self) -> Matrix | None:
        mixing = self.geometry.mixing
        # Points that are mixed already may be the rows.
        done = bool(self.points.mixings) and np.array_equal(mixing, np.eye(*mixing.shape))
        return mixing if self.mixed and not done else None

    def _read(
        self,
        function: BlockFunction[T],
        make: Callable[[int], T],
        mixing: Matrix | None,
        device: Device,
        dtype: type | None = None,
        columns: tuple[int, int] | None = None,
    ) -> list[T]:
        mixings = [*self.points.mixings, *(() if mixing is None else (mixing,))]
        mixer, sum_squares = device.mixer(mixings) if mixings else None, self.norms is None

        def worker(width: int) -> _Reader[T]:
            return _Reader(self.points, width, function, make(width), mixer, dtype, device, sum_squares)

        readers = for_blocks(self.points, worker, self.threads, columns, device)
        self._after([reader.squares for reader in readers], whole=columns is None)
        return [reader.found for reader in readers]

    def _after(self, squares: Sequence[NDArray[np.float64]], *, whole: bool = True) -> None:
        """Count the pass, and look for rows that are not finite in what the first one over all columns summed up."""
        self.passes += whole
        if self.norms is not None:
            return
        total = add_up(squares)
        if whole or not np.isfinite(total).all():
            norms = norms_of(self.points, total, self.threads)
            if whole:
                self.norms = norms[: self.n]


def mix_rows(updates: Updates, mixing: Matrix, threads: int | None = None) -> FloatArray:
    """Return ``mixing @ rows`` as an (m, d) array: for those who need all rows at once."""
    out = np.empty((len(mixing), updates.d), updates.dtype)

    def store(block: Block, start: int, _: None) -> None:
        operations.store(block, out[:, start : start + block.shape[1]])

    read(updates, store, lambda _: None, threads, mixing=mixing)
    return out


def add_up(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the sum of what the threads found, in their fixed order."""
    total: NDArray[np.float64] = np.sum(parts, axis=0, dtype=np.float64)
    return total


# ---------------------------------------------------------------- what threads do with blocks


def read(
    updates: Updates,
    function: BlockFunction[T],
    make: Callable[[int], T],
    threads: int | None = None,
    *,
    mixing: Matrix | None = None,
    raw: NDArray[np.float64] | None = None,
) -> list[T]:
    """Read all columns once, where the updates are to be worked on; see `Rows.scan`. Mixed blocks are of float64.

    `raw` (n,), if it is given, is filled with the sums of squares of the rows before they are mixed.
    """
    device, mixings = updates.device, [*updates.mixings, *(() if mixing is None else (mixing,))]
    mixer, dtype = (device.mixer(mixings), np.float64) if mixings else (None, None)

    def worker(width: int) -> _Reader[T]:
        return _Reader(updates, width, function, make(width), mixer, dtype, device, raw is not None)

    readers = for_blocks(updates, worker, threads, device=device)
    if raw is not None:
        raw[:] = add_up([reader.squares for reader in readers])
    return [reader.found for reader in readers]


def zeros(*shape: int, dtype: Any = np.float64) -> Callable[[int], NDArray[Any]]:
    """Return what makes an array of zeros for each thread."""
    return lambda width: np.zeros(shape, dtype)


class _Reader(Generic[T]):
    """A thread's way through the columns: reads a block, mixes it, and calls a function on it."""

    def __init__(
        self,
        updates: Updates,
        width: int,
        function: BlockFunction[T],
        found: T,
        mixer: Any,
        dtype: Any,
        device: Device,
        sum_squares: bool = False,
    ) -> None:
        self.function, self.found, self.sum_squares = function, found, sum_squares
        self.squares = np.zeros(updates.n)
        self._feed = device.feed(updates, width, mixer, dtype)

    def __call__(self, start: int, stop: int) -> None:
        """Work on columns ``start:stop``."""
        self._feed.give(start, stop, lambda block: self._work(start, block))

    def _work(self, start: int, block: Block) -> None:
        if self.sum_squares:
            operations.squared_norms(block, self.squares)
        with np.errstate(invalid="ignore", over="ignore"):
            self.function(self._feed.mixed(block), start, self.found)


class _Combine:
    """A thread's way through the columns of a weighted sum; on the CPU the rows are read where they lie."""

    def __init__(
        self, updates: Updates, weights: Weights, vector: FloatArray, width: int, sum_squares: bool, device: Device
    ) -> None:
        self.weights, self.vector, self.sum_squares = weights, vector, sum_squares
        self.squares = np.zeros(updates.n)
        self.total = np.empty(width)
        self._feed = device.feed(updates, width)

    def __call__(self, start: int, stop: int) -> None:
        """Work on columns ``start:stop``."""
        total = self.total[: stop - start]
        total[:] = 0.0
        self._feed.weigh(start, stop, self.weights, total, self.squares if self.sum_squares else None)
        with np.errstate(over="ignore", invalid="ignore"):
            self.vector[start:stop] = total
