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
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.cpu import CPU, Worker, for_blocks
from flwr_robust.engine.device import Block, Device, FloatArray
from flwr_robust.engine.geometry import Geometry, Matrix, Needs, Weights, central_row
from flwr_robust.engine.updates import Layer, Updates

# Takes a block (rows, columns), which it may overwrite, and fills a result (columns,).
ColumnFunction = Callable[[Block, Weights], None]
B = TypeVar("B", bound="BlockReader")
W = TypeVar("W", bound=Worker)

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


def measure(updates: Updates, needs: Needs = Needs.DISTANCES, threads: int | None = None) -> tuple[Geometry, int]:
    """Return the geometry of the rows and the origin as far as it is needed, and how many passes that took.

    Raises
    ------
    NonFiniteRowsError
        If rows hold NaN or infinity, and anything is needed.
    """
    if needs is Needs.DISTANCES:
        return _measure_distances(updates, threads)
    if needs is Needs.NORMS:
        return _measure_norms(updates, threads)
    return Geometry(np.zeros((updates.n + 1, updates.n + 1)), measured=Needs.NOTHING), 0


def _measure_distances(updates: Updates, threads: int | None) -> tuple[Geometry, int]:
    n, passes, unit = updates.n, 1, 1.0
    gram = _gram(updates, threads)
    if not _within_range(gram.diagonal()[:n], updates):
        unit = _unit(updates, gram.diagonal()[:n], threads)
        gram, passes = _gram(updates, threads, unit=unit), passes + 2
    if n > 1:
        centre, closeness = central_row(gram[:n, :n])
        if closeness < CLOSE:
            gram, passes = _gram(updates, threads, unit=unit, centre=centre), passes + 1
    return Geometry(gram, unit=unit), passes


def _measure_norms(updates: Updates, threads: int | None) -> tuple[Geometry, int]:
    squares, passes, unit = _sum_squares(updates, threads), 1, 1.0
    if not _within_range(squares, updates):
        unit = _unit(updates, squares, threads)
        squares, passes = _sum_squares(updates, threads, unit), 3
    return Geometry(np.diag(np.append(squares, 0.0)), unit=unit, measured=Needs.NORMS), passes


def _gram(updates: Updates, threads: int | None, *, unit: float = 1.0, centre: int | None = None) -> Matrix:
    """(n + 1, n + 1) Gram matrix of the rows in multiples of a unit, relative to one of them; and of the origin."""
    mixing = np.eye(updates.n + 1, updates.n)
    if centre is not None:
        mixing[:, centre] -= 1.0
    options = {} if unit == 1.0 and centre is None else mixed_by(updates.device, mixing / unit)
    workers = read_all(updates, lambda width: _Gram(updates, width, **options), threads)
    upper = np.triu(add_up([worker.gram for worker in workers]))
    return upper + np.triu(upper, 1).T


def _sum_squares(updates: Updates, threads: int | None, unit: float = 1.0) -> NDArray[np.float64]:
    options = {} if unit == 1.0 else mixed_by(updates.device, np.eye(updates.n) / unit)
    workers = read_all(updates, lambda width: _Squares(updates, width, **options), threads)
    return add_up([worker.squares for worker in workers])


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
    workers = read_all(updates, lambda width: _Largest(updates, width), threads)
    found = np.max([worker.largest for worker in workers], axis=0)
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
    geometry, _ = _measure_norms(updates, threads)
    return geometry.norms * geometry.unit


# ---------------------------------------------------------------- after a chain has planned


class Rows:
    """m rows that are linear combinations of n updates, and of the vectors that a rule remembers.

    Parameters
    ----------
    points : Updates
        The updates and, below them, those of the remembered vectors that were measured with them.
    geometry : Geometry
        Norms and distances of the m rows, as far as the chain said that it needs them.
    n : int
        Number of updates.
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
        *,
        remembered: Mapping[str, NDArray[Any]] | None = None,
        mixed: bool = True,
        norms: NDArray[np.float64] | None = None,
        passes: int = 0,
        threads: int | None = None,
        generator: Callable[[], np.random.Generator] = np.random.default_rng,
    ) -> None:
        self.points, self.geometry, self.n, self.mixed = points, geometry, n, mixed
        self.generator = generator
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
        below = np.eye(points)[self.n : points - 1]
        return Geometry(self.geometry.gram, np.vstack([affine, below]), self.geometry.unit, self.geometry.measured)

    def combine(self, weights: Weights) -> FloatArray:
        """Return the weighted sum (d,) of the m rows, or of the m rows and the k vectors of `with_remembered`.

        Parameters
        ----------
        weights : (m,) or (m + k,) float64 array
        """
        affine = self.geometry.affine if len(weights) == self.count else self.with_remembered().affine
        of_points = weights @ affine[:, :-1]
        self.weights = of_points[: self.n]
        return self._combine(of_points, self.points.dtype, self.points.device, count=True)

    def row(self, index: int) -> FloatArray:
        """Return a copy of one of the m rows in full, (d,): float64 if it is mixed; not counted as a pass.

        It is made where the updates lie: to send them elsewhere takes longer.
        """
        dtype = np.float64 if self.mixed else self.points.dtype
        return self._combine(self.geometry.affine[index, :-1], dtype, self.points.home, count=False)

    def _combine(self, weights: Weights, dtype: Any, device: Device, *, count: bool) -> FloatArray:
        vector = np.empty(self.d, dtype)
        sum_squares = count and self.norms is None
        workers = for_blocks(
            self.points,
            lambda width: _Combine(self.points, weights, vector, width, sum_squares, device),
            self.threads,
            device=device,
        )
        if count:
            self._after(workers)
        return vector

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
        options = self._options(device, mixing)
        make = lambda width: _Reduce(self.points, width, function, vector, **options)  # noqa: E731
        self._after(for_blocks(self.points, make, self.threads, device=device))
        return vector

    def scan(
        self,
        make: Callable[..., B],
        *,
        dtype: type | None = None,
        columns: tuple[int, int] | None = None,
        tensors: bool = False,
    ) -> list[B]:
        """Read the rows once and return the threads' readers, in a fixed order.

        Parameters
        ----------
        make : callable
            A subclass of `BlockReader`, or a function that passes its arguments on to one: called as
            ``make(updates, width, mixer=..., dtype=..., sum_squares=..., device=...)``. Its `use` gets blocks of the
            m rows.
        dtype : type, optional
            Of the blocks; by default the updates'.
        columns : (start, stop), optional
            Only these columns.
        tensors : bool
            Whether `use` takes torch tensors too; otherwise the pass runs on the CPU, wherever others do.
        """
        device = self.points.device if tensors else CPU
        options = self._options(device, self._mixing) | {"dtype": dtype}
        read = lambda width: make(self.points, width, **options)  # noqa: E731
        workers = for_blocks(self.points, read, self.threads, columns, device)
        self._after(workers, whole=columns is None)
        return workers

    def take(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return these columns (ascending) of the m rows, (m, len(columns)); only they are read."""
        taken = self.points.take(columns).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(taken).all(axis=1))
        if bad.size:
            raise NonFiniteRowsError(bad.tolist())
        return self.geometry.mixing @ taken if self.mixed else taken

    def count_in(self, kept: NDArray[np.bool_]) -> None:
        """Say which of the m rows count in which layer, (m, layers): an update counts where such a row holds it."""
        holds = self.geometry.mixing != 0.0
        counted = (holds.T.astype(np.int64) @ kept) > 0
        self.used = counted.mean(axis=1)[: self.n]

    @property
    def _mixing(self) -> Matrix | None:
        return self.geometry.mixing if self.mixed else None

    def _options(self, device: Device, mixing: Matrix | None) -> dict[str, Any]:
        """Return the options of a pass's readers; the first pass over all columns finds rows that are not finite."""
        mixer = None if mixing is None else device.mixer(mixing)
        return {"mixer": mixer, "sum_squares": self.norms is None, "device": device}

    def _after(self, workers: Sequence[Any], *, whole: bool = True) -> None:
        """Count the pass, and look for rows that are not finite in what the first one over all columns summed up."""
        self.passes += whole
        if self.norms is not None:
            return
        squares = add_up([worker.squares for worker in workers])
        if whole or not np.isfinite(squares).all():
            norms = norms_of(self.points, squares, self.threads)
            if whole:
                self.norms = norms[: self.n]


def mix_rows(updates: Updates, mixing: Matrix, threads: int | None = None) -> FloatArray:
    """Return ``mixing @ rows`` as an (m, d) array: for those who need all rows at once."""
    out = np.empty((len(mixing), updates.d), updates.dtype)
    options = mixed_by(updates.device, mixing)
    read_all(updates, lambda width: _Mix(updates, width, out, **options), threads)
    return out


def add_up(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the sum of what the threads found, in their fixed order."""
    total: NDArray[np.float64] = np.sum(parts, axis=0, dtype=np.float64)
    return total


# ---------------------------------------------------------------- what threads do with blocks


class BlockReader:
    """A thread's way through the columns: reads a block, mixes it, and hands it to `use`.

    Parameters
    ----------
    updates : Updates
        What is read.
    width : int
        Columns of a block at most.
    mixer : optional
        From the device's `mixer`: `use` gets the mixed block. Threads may share one.
    dtype : dtype, optional
        Of the mixed block; by default the updates'.
    sum_squares : bool
        Whether to add up the squares of the updates, in `squares`, which shows rows that are not finite.
    device : Device
        Where the work is done: on the CPU blocks are arrays, on devices of torch's they are tensors.
    """

    def __init__(
        self,
        updates: Updates,
        width: int,
        *,
        mixer: Any = None,
        dtype: Any = None,
        sum_squares: bool = False,
        device: Device = CPU,
    ) -> None:
        self.updates, self.sum_squares = updates, sum_squares
        self.squares = np.zeros(updates.n)
        self._feed = device.feed(updates, width, mixer, dtype)

    def __call__(self, start: int, stop: int) -> None:
        """Work on columns ``start:stop``."""
        self._feed.give(start, stop, lambda block: self._work(start, stop, block))

    def _work(self, start: int, stop: int, block: Block) -> None:
        if self.sum_squares:
            operations.squared_norms(block, self.squares)
        with np.errstate(invalid="ignore", over="ignore"):
            self.use(start, stop, self._feed.mixed(block))

    def use(self, start: int, stop: int, block: Block) -> None:
        """Do the work on the (rows, stop - start) block, which may be overwritten."""
        raise NotImplementedError


def read_all(updates: Updates, make_worker: Callable[[int], W], threads: int | None) -> list[W]:
    """Run workers over all columns, where the updates are to be worked on."""
    return for_blocks(updates, make_worker, threads, device=updates.device)


def mixed_by(device: Device, mixing: Matrix) -> dict[str, Any]:
    """Return the options of a reader that gets mixed blocks in float64."""
    return {"mixer": device.mixer(mixing), "dtype": np.float64}


class OnDevice(BlockReader):
    """A reader that works where the updates are to be worked on."""

    def __init__(self, updates: Updates, width: int, **options: Any) -> None:
        super().__init__(updates, width, device=updates.device, **options)


class _Squares(OnDevice):
    def use(self, start: int, stop: int, block: Block) -> None:
        operations.squared_norms(block, self.squares)


class _Largest(OnDevice):
    def __init__(self, updates: Updates, width: int) -> None:
        super().__init__(updates, width)
        self.largest = np.zeros(updates.n)

    def use(self, start: int, stop: int, block: Block) -> None:
        operations.largest(block, self.largest)


class _Gram(OnDevice):
    """Inner products of the rows, on and above the diagonal; the origin, which comes last, may be left out."""

    def __init__(self, updates: Updates, width: int, **options: Any) -> None:
        super().__init__(updates, width, **options)
        self.gram = np.zeros((updates.n + 1, updates.n + 1))

    def use(self, start: int, stop: int, block: Block) -> None:
        operations.add_gram(block, self.gram)


class _Mix(OnDevice):
    def __init__(self, updates: Updates, width: int, out: FloatArray, **options: Any) -> None:
        super().__init__(updates, width, **options)
        self.out = out

    def use(self, start: int, stop: int, block: Block) -> None:
        operations.store(block, self.out[:, start:stop])


class _Reduce(BlockReader):
    def __init__(
        self, updates: Updates, width: int, function: ColumnFunction, vector: FloatArray, **options: Any
    ) -> None:
        super().__init__(updates, width, **options)
        self.function, self.vector = function, vector
        self.result = np.empty(width)

    def use(self, start: int, stop: int, block: Block) -> None:
        result = self.result[: stop - start]
        self.function(block, result)
        self.vector[start:stop] = result


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
