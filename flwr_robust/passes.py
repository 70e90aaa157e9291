"""The passes over the data: each reads all columns once, in blocks, over threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.devices import CPU, Block, Device
from flwr_robust.geometry import Geometry, Matrix, central_row
from flwr_robust.mixer import Mixer
from flwr_robust.parallel import Worker, for_blocks
from flwr_robust.updates import FloatArray, Updates

Weights = NDArray[np.float64]
# Takes a block (rows, columns), which it may overwrite, and fills a result (columns,).
ColumnFunction = Callable[[Block, Weights], None]
W = TypeVar("W", bound=Worker)

# Squared spread over squared norm under which distances are measured again from within the rows.
CLOSE = 1e-6
# Squares of float64 values outside this range may over- or underflow.
TINY, HUGE = 1e-280, 1e280
# Units within which one over a unit is neither zero nor infinite.
SMALLEST_UNIT, LARGEST_UNIT = 1e-300, 1e300


class NonFiniteRowsError(ValueError):
    """Some rows hold NaN or infinity.

    Attributes
    ----------
    rows : list of int
        Which ones.
    fault : str
        What is wrong with their arrays.
    """

    fault = "the arrays hold NaN or infinity"

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = list(rows)
        super().__init__(f"rows {self.rows} hold NaN or infinity; leave such rows out before aggregating.")


def measure(updates: Updates, threads: int | None = None) -> tuple[Geometry, int]:
    """Gram matrix of the rows and the origin, in float64; and the number of passes that it took."""
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


def measure_norms(updates: Updates, threads: int | None = None) -> tuple[Geometry, int]:
    """Norms of the rows alone, as a Geometry with a diagonal Gram matrix; and the passes that it took."""
    squares, passes, unit = _sum_squares(updates, threads), 1, 1.0
    if not _within_range(squares, updates):
        unit = _unit(updates, squares, threads)
        squares, passes = _sum_squares(updates, threads, unit), 3
    return Geometry(np.diag(np.append(squares, 0.0)), unit=unit), passes


def row_norms(updates: Updates, squares: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Return the rows' norms from their sums of squares, measured again where float64 could not hold those.

    Raises
    ------
    NonFiniteRowsError
        If rows hold NaN or infinity.
    """
    if _within_range(squares, updates):
        return np.sqrt(squares)
    geometry, _ = measure_norms(updates, threads)
    return geometry.norms * geometry.unit


def combine(
    updates: Updates,
    weights: Weights,
    threads: int | None = None,
    *,
    check: bool = False,
    dtype: Any = None,
    device: Device | None = None,
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return ``weights @ rows`` (d,), and the rows' sums of squares where `check` asks for them.

    The device is by default where the updates are to be worked on.
    """
    vector = np.empty(updates.d, dtype or updates.dtype)
    where = device or updates.device
    workers = for_blocks(
        updates, lambda width: _Combine(updates, weights, vector, width, check, where), threads, device=where
    )
    return vector, add_up([worker.squares for worker in workers])


def reduce(
    updates: Updates,
    function: ColumnFunction,
    mixing: Matrix | None = None,
    threads: int | None = None,
    *,
    check: bool = False,
    device: Device = CPU,
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return the (d,) results of a function of columns of ``mixing @ rows``, and squares as `combine` does.

    The device is where the function gets its blocks, as arrays or tensors.
    """
    vector = np.empty(updates.d, updates.dtype)
    options = {"mixer": None if mixing is None else Mixer(mixing), "check": check, "device": device}
    workers = for_blocks(
        updates, lambda width: _Reduce(updates, width, function, vector, **options), threads, device=device
    )
    return vector, add_up([worker.squares for worker in workers])


def squared_lp_distances(updates: Updates, mixing: Matrix, p: float, threads: int | None = None) -> Matrix:
    """(m, m) squared lp distances of the rows ``mixing @ updates``; one pass."""
    mixer = Mixer(mixing)
    workers = _read_all(updates, lambda width: _LpDistances(updates, mixer, p, width), threads)
    scale = np.max([worker.scales for worker in workers], axis=0)
    if np.isinf(p):
        distances = scale
    else:
        safe = np.where(scale > 0, scale, 1.0)
        total = sum(worker.sums * (worker.scales / safe) ** p for worker in workers)
        distances = scale * np.asarray(total) ** (1 / p)
    largest = distances.max(initial=0.0) or 1.0
    # Krum only compares them: relative to the largest, their squares stay finite.
    squares: Matrix = np.square((distances + distances.T) / largest)
    return squares


def mix_rows(updates: Updates, mixing: Matrix, threads: int | None = None) -> FloatArray:
    """Return ``mixing @ rows`` as an (m, d) array: for those who need all rows at once."""
    out = np.empty((len(mixing), updates.d), updates.dtype)
    mixer = Mixer(mixing)
    _read_all(updates, lambda width: _Mix(updates, mixer, out, width), threads)
    return out


def add_up(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the sum of what the threads found, in their fixed order."""
    total: NDArray[np.float64] = np.sum(parts, axis=0, dtype=np.float64)
    return total


def _read_all(updates: Updates, make_worker: Callable[[int], W], threads: int | None) -> list[W]:
    """Run workers over all columns, where the updates are to be worked on."""
    return for_blocks(updates, make_worker, threads, device=updates.device)


def _gram(updates: Updates, threads: int | None, *, unit: float = 1.0, centre: int | None = None) -> Matrix:
    """(n + 1, n + 1) Gram matrix of the rows in multiples of a unit, relative to one of them; and of the origin."""
    mixing = np.eye(updates.n + 1, updates.n)
    if centre is not None:
        mixing[:, centre] -= 1.0
    mixer = None if unit == 1.0 and centre is None else Mixer(mixing / unit)
    workers = _read_all(updates, lambda width: _Gram(updates, mixer, width), threads)
    upper = np.triu(add_up([worker.gram for worker in workers]))
    return upper + np.triu(upper, 1).T


def _sum_squares(updates: Updates, threads: int | None, unit: float = 1.0) -> NDArray[np.float64]:
    mixer = None if unit == 1.0 else Mixer(np.eye(updates.n) / unit)
    workers = _read_all(updates, lambda width: _Squares(updates, mixer, width), threads)
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
    workers = _read_all(updates, lambda width: _Largest(updates, width), threads)
    found = np.max([worker.largest for worker in workers], axis=0)
    if not np.isfinite(found).all():
        raise NonFiniteRowsError(np.flatnonzero(~np.isfinite(found)).tolist())
    largest = float(found.max(initial=0.0))
    return min(max(largest, SMALLEST_UNIT), LARGEST_UNIT) if largest else 1.0


class BlockReader:
    """A thread's way through the columns: reads a block, checks it, mixes it, and hands it to `use`.

    Parameters
    ----------
    updates : Updates
        What is read.
    width : int
        Columns a block at most.
    rows : sequence of int, optional
        Only these rows.
    mixer : Mixer, optional
        `use` gets the mixed block. Threads may share one.
    dtype : dtype, optional
        Of the mixed block; by default the updates'.
    check : bool
        Whether to add up the rows' squares, in `squares`, which shows rows that are not finite.
    device : Device
        Where the work is done: on the CPU blocks are arrays, on devices of torch's they are tensors.
    """

    def __init__(
        self,
        updates: Updates,
        width: int,
        *,
        rows: Sequence[int] | None = None,
        mixer: Mixer | None = None,
        dtype: Any = None,
        check: bool = False,
        device: Device = CPU,
    ) -> None:
        self.updates, self.check = updates, check
        self.squares = np.zeros(updates.n)
        self._feed = device.feed(updates, width, rows, mixer, dtype)

    def __call__(self, start: int, stop: int) -> None:
        """Work on columns ``start:stop``."""
        self._feed.give(start, stop, lambda block: self._work(start, stop, block))

    def _work(self, start: int, stop: int, block: Block) -> None:
        if self.check:
            self.add_squares(block)
        with np.errstate(invalid="ignore", over="ignore"):
            self.use(start, stop, self._feed.mixed(block))

    def use(self, start: int, stop: int, block: Block) -> None:
        """Do the work on the (rows, stop - start) block, which may be overwritten."""
        raise NotImplementedError

    def add_squares(self, block: Block) -> None:
        """Add the block's squares to the rows' sums."""
        from flwr_robust import kernels

        kernels.of(block).squared_norms(block, self.squares)


def _mixed_dtype(mixer: Mixer | None) -> Any:
    return None if mixer is None else np.float64


class _Squares(BlockReader):
    def __init__(self, updates: Updates, mixer: Mixer | None, width: int) -> None:
        super().__init__(updates, width, mixer=mixer, dtype=_mixed_dtype(mixer), device=updates.device)

    def use(self, start: int, stop: int, block: Block) -> None:
        self.add_squares(block)


class _Largest(BlockReader):
    def __init__(self, updates: Updates, width: int) -> None:
        super().__init__(updates, width, device=updates.device)
        self.largest = np.zeros(updates.n)

    def use(self, start: int, stop: int, block: Block) -> None:
        from flwr_robust import kernels

        kernels.of(block).largest(block, self.largest)


class _Gram(BlockReader):
    """Inner products of the rows, on and above the diagonal; the origin, which comes last, may be left out."""

    def __init__(self, updates: Updates, mixer: Mixer | None, width: int) -> None:
        super().__init__(updates, width, mixer=mixer, dtype=_mixed_dtype(mixer), device=updates.device)
        self.gram = np.zeros((updates.n + 1, updates.n + 1))

    def use(self, start: int, stop: int, block: Block) -> None:
        from flwr_robust import kernels

        kernels.of(block).add_gram(block, self.gram)


class _LpDistances(BlockReader):
    def __init__(self, updates: Updates, mixer: Mixer, p: float, width: int) -> None:
        super().__init__(updates, width, mixer=mixer, dtype=np.float64, device=updates.device)
        self.p = p
        self.scales = np.zeros((mixer.rows, mixer.rows))
        self.sums = np.zeros_like(self.scales)

    def use(self, start: int, stop: int, block: Block) -> None:
        from flwr_robust import kernels

        kernels.of(block).add_lp_powers(block, self.p, self.scales, self.sums)


class _Mix(BlockReader):
    def __init__(self, updates: Updates, mixer: Mixer, out: FloatArray, width: int) -> None:
        super().__init__(updates, width, mixer=mixer, dtype=np.float64, device=updates.device)
        self.out = out

    def use(self, start: int, stop: int, block: Block) -> None:
        from flwr_robust import kernels

        kernels.of(block).store(block, self.out[:, start:stop])


class _Combine:
    """A thread's way through the columns of a weighted sum; on the CPU the rows are read where they lie."""

    def __init__(
        self, updates: Updates, weights: Weights, vector: FloatArray, width: int, check: bool, device: Device
    ) -> None:
        self.weights, self.vector = weights, vector
        self.squares = np.zeros(updates.n)
        self.check = check
        self.total = np.empty(width)
        self._feed = device.feed(updates, width)

    def __call__(self, start: int, stop: int) -> None:
        """Work on columns ``start:stop``."""
        total = self.total[: stop - start]
        total[:] = 0.0
        self._feed.weigh(start, stop, self.weights, total, self.squares if self.check else None)
        with np.errstate(over="ignore", invalid="ignore"):
            self.vector[start:stop] = total


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
