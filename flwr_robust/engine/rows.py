"""The rows of a chain: what is known of them from a Gram matrix, and what a rule may ask of the data.

After a linear pre-aggregation the rows are ``y_i = sum_j A_ij p_j``: affine combinations (the weights of a row add up
to one) of the n updates and of the origin, which stands for zero, so that clipping is affine too. Their distances
follow from the Gram matrix of the points: that is a `Geometry`. `Rows` are the data behind it. Each question takes one
more pass: `combine` answers with a weighted sum, `reduce` with a function of columns, `scan` with anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Block, Device, FloatArray, Matrix, Weights
from flwr_robust.engine.passes import (
    BlockFunction,
    Measured,
    Merge,
    Needs,
    NonFiniteRowsError,
    Pass,
    norms_of,
    nothing_to_merge,
    squared_distances,
)
from flwr_robust.engine.updates import Layer, Updates

T = TypeVar("T")
# Takes a block (rows, columns), which it may overwrite, and fills a result (columns,).
ColumnFunction = Callable[[Block, Weights], None]

# Takes columns (rows, columns) of rows, and returns each row's mean coefficient in what a rule makes of them.
Shares = Callable[[NDArray[np.float64]], Weights | None]

# Coordinates that stand for all where all would take too long: the most of them, and the least. Each is a miss of the
# cache for every row, and so costs as much as reading many that lie together.
SAMPLE, LEAST_SAMPLE = 4096, 1024
# As many of them are looked at together.
AT_A_TIME = 512

# Values that differ by less than this relative amount are a tie, which the lowest index wins: mutual
# nearest neighbours, or rows clipped to one norm, tie exactly, and rounding must not choose between them.
TIE = 1e-13
# Relative error of squared distances beyond which rows have to be measured as they are.
BLUR = 1e-6


class UnmeasuredError(ValueError):
    """Something was read that was not measured, since nobody had declared a need for it.

    Attributes
    ----------
    needs : Needs
        What must be declared.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        super().__init__(f"{needs.name.lower()} were not measured.")


class Geometry:
    """m rows that are affine combinations of points whose Gram matrix is known.

    Parameters
    ----------
    gram : (p, p) float64 array
        Inner products of the points, each taken relative to one common reference point.
        The last point is the origin; the others are the updates.
    affine : (m, p) float64 array, optional
        Weights of the rows, each row adding up to one. By default the rows are the updates.
    unit : float
        The points are in multiples of this number: it keeps squares of huge float64 values finite.
    measured : Needs
        What the Gram matrix holds: of norms alone it has the diagonal. What was not measured cannot be read.
    unclipped : (m, p - 1) float64 array, optional
        Weights of the updates in the rows as they are without clipping.
    """

    def __init__(
        self,
        gram: Matrix,
        affine: Matrix | None = None,
        unit: float = 1.0,
        measured: Needs = Needs.DISTANCES,
        unclipped: Matrix | None = None,
    ) -> None:
        self.gram = gram
        self.affine = np.eye(len(gram) - 1, len(gram)) if affine is None else affine
        self.unit = unit
        self.measured = measured
        self.unclipped = self.affine[:, :-1] if unclipped is None else unclipped

    @classmethod
    def of(cls, measured: Measured) -> Geometry:
        """Return the geometry of rows as they were measured."""
        return cls(measured.gram, unit=measured.unit, measured=measured.needs)

    @property
    def count(self) -> int:
        """Number of rows, m."""
        return len(self.affine)

    def first(self, count: int) -> Geometry:
        """Return the first rows alone; the points stay."""
        return self.chosen(range(count))

    def chosen(self, which: Sequence[int]) -> Geometry:
        """Return these rows alone; the points stay."""
        rows = list(which)
        return Geometry(self.gram, self.affine[rows], self.unit, self.measured, self.unclipped[rows])

    @property
    def mixing(self) -> Matrix:
        """(m, p - 1) matrix that makes the rows out of the updates."""
        return self.affine[:, :-1]

    @cached_property
    def inner(self) -> Matrix:
        """(m, m) inner products of the rows, relative to a point in their midst."""
        self._require(Needs.DISTANCES)
        # What most rows share drops out first: nothing that they hold in common, a huge
        # hostile update say, then swamps their differences.
        shifted = self.affine - np.median(self.affine, axis=0)
        inner = shifted @ self.gram @ shifted.T
        return (inner + inner.T) / 2

    @cached_property
    def squared_distances(self) -> Matrix:
        """(m, m) squared Euclidean distances, in squared units; symmetric, zero on the diagonal."""
        return squared_distances(self.inner)

    @cached_property
    def inner_from_origin(self) -> Matrix:
        """(m, m) inner products of the rows, relative to zero."""
        self._require(Needs.DISTANCES)
        from_origin = self._from_origin
        inner = from_origin @ self.gram @ from_origin.T
        return (inner + inner.T) / 2

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """(m,) Euclidean norms of the rows, in units."""
        self._require(Needs.NORMS)
        from_origin = self._from_origin
        squares: NDArray[np.float64] = ((from_origin @ self.gram) * from_origin).sum(axis=1)
        return np.sqrt(np.maximum(squares, 0.0))

    @property
    def _from_origin(self) -> Matrix:
        """(m, p) weights of the differences between the rows and the origin; they add up to zero."""
        weights = self.affine.copy()
        weights[:, -1] -= 1.0
        return weights

    @property
    def is_blurred(self) -> bool:
        """Whether what cancels in the rows leaves rounding where most distances should be."""
        if self.measured is not Needs.DISTANCES:
            return False
        shifted = np.abs(self.affine - np.median(self.affine, axis=0))
        error = np.finfo(np.float64).eps * float((shifted @ np.sqrt(self.gram.diagonal())).max(initial=0.0)) ** 2
        return bool(error > BLUR * np.median(self.squared_distances))

    def _require(self, needs: Needs) -> None:
        if self.measured < needs:
            raise UnmeasuredError(needs)

    def with_distances(self, squared_distances: Matrix) -> Geometry:
        """Return the same rows with these squared distances, of another norm, in place of the Euclidean ones."""
        rows = Geometry(self.gram, self.affine, self.unit, self.measured, self.unclipped)
        # A cached property reads its value from the instance's dictionary.
        rows.__dict__["squared_distances"] = squared_distances
        return rows

    def mix(self, matrix: Matrix) -> Geometry:
        """Rows ``matrix @ rows``; the rows of `matrix` (k, m) must add up to one."""
        # The norms of mixed rows follow from inner products, not from norms.
        measured = self.measured if self.measured is Needs.DISTANCES else Needs.NOTHING
        return Geometry(self.gram, matrix @ self.affine, self.unit, measured, matrix @ self.unclipped)

    def scale(self, factors: NDArray[np.float64]) -> Geometry:
        """Each row times its factor."""
        affine = self.affine * factors[:, None]
        affine[:, -1] += 1.0 - factors
        return Geometry(self.gram, affine, self.unit, self.measured, self.unclipped)


def clip_factors(norms: Weights, threshold: float) -> Weights:
    """Return ``min(1, C / ||x||)`` for each norm (ARC, section 3)."""
    factors = np.ones(len(norms))
    long = norms > threshold
    factors[long] = threshold / norms[long]
    return factors


def lowest(values: Weights, count: int) -> list[int]:
    """Return the indices of the `count` lowest values; ties, which rounding hides, go to the lower index."""
    last = np.partition(values, count - 1)[count - 1]
    slack = TIE * abs(last)
    certain = np.flatnonzero(values < last - slack)
    tied = np.flatnonzero(np.abs(values - last) <= slack)
    return [*certain.tolist(), *tied.tolist()][:count]


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
    vectors : sequence of str
        Names of the vectors.
    remembered : mapping of str to array, optional
        What the rule keeps between calls, by name.
    names : tuple of str
        Who sent the m rows.
    given : mapping of str to (d,) array, optional
        Vectors that the rule was told beside the rows, by name.
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
    apart : (n,) float64 array or None
        The same, clip factors apart.
    used : (n,) float64 array or None
        Share of the layers in which each update counted; None unless the rule gave it to `count_in`.
    shares : (function, select) or None
        How rows share in coordinates that are not a weighted sum of them, for `weights_in`.
    shares_are_exact : bool or None
        Whether these shares are the same whichever columns are looked at; None: they are exact in all columns alone.
    norms : (n,) float64 array or None
        Norms of the updates; known after the first pass over all columns.
    noted : dict of str to array
        What the rule will remember once nothing can fail any more.
    own : set of str
        What of that it has handed over.
    deferred : list of callable
        What is to be done before.
    """

    def __init__(
        self,
        points: Updates,
        geometry: Geometry,
        n: int,
        vectors: Sequence[str] = (),
        *,
        remembered: Mapping[str, NDArray[Any]] | None = None,
        names: tuple[str, ...] = (),
        given: Mapping[str, FloatArray] | None = None,
        mixed: bool = True,
        norms: NDArray[np.float64] | None = None,
        passes: int = 0,
        threads: int | None = None,
        generator: Callable[[], np.random.Generator] = np.random.default_rng,
    ) -> None:
        self.points, self.geometry, self.n, self.vectors = points, geometry, n, tuple(vectors)
        self.names, self.given = names, given or {}
        self.mixed, self.generator = mixed, generator
        self.norms, self.passes, self.threads = norms, passes, threads
        self.remembered: Mapping[str, NDArray[Any]] = remembered or {}
        self.noted: dict[str, NDArray[Any]] = {}
        self.own: set[str] = set()
        self.deferred: list[Callable[[], None]] = []
        self.weights: Weights | None = None
        self.apart: Weights | None = None
        self.used: Weights | None = None
        self.shares: tuple[Shares, Matrix | None] | None = None
        self.shares_are_exact: bool | None = None

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

    def defer(self, work: Callable[[], None]) -> None:
        """Have something done once nothing can fail any more: large memories change where they lie."""
        self.deferred.append(work)

    def hand_over(self, **values: NDArray[Any]) -> None:
        """Note arrays that nobody else holds, and that may be too large for a copy: they are kept as they are."""
        self.remember(**values)
        self.own.update(values)

    def with_remembered(self) -> Geometry:
        """Return the geometry of the m rows and, below them, the vectors that were measured with them."""
        affine, points = self.geometry.affine, len(self.geometry.gram)
        below = np.eye(points)[points - 1 - len(self.vectors) : points - 1]
        return Geometry(
            self.geometry.gram,
            np.vstack([affine, below]),
            self.geometry.unit,
            self.geometry.measured,
            np.vstack([self.geometry.unclipped, below[:, :-1]]),
        )

    def place(self, name: str) -> int | None:
        """Return which row of `with_remembered` a vector is; None where it was not measured."""
        return self.count + self.vectors.index(name) if name in self.vectors else None

    def combine(self, weights: Weights) -> FloatArray:
        """Return the weighted sum (d,) of the m rows, or of the m rows and the k vectors of `with_remembered`.

        Parameters
        ----------
        weights : (m,) or (m + k,) float64 array
        """
        geometry = self.geometry if len(weights) == self.count else self.with_remembered()
        of_points = weights @ geometry.mixing
        self.weights, self.apart = self._of_updates(of_points), self._of_updates(weights @ geometry.unclipped)
        data = self._pass(self.points.device, np.float64)
        return self._after(data, data.weigh(of_points, self._vector()))

    def row(self, index: int) -> FloatArray:
        """Return a copy of one of the m rows in full, (d,): float64 if it is mixed; not counted as a pass.

        It is made where the updates lie: to send them elsewhere takes longer.
        """
        vector = np.empty(self.d, np.float64 if self.mixed else self.points.dtype)
        once = Pass(self.points, self.points.home, dtype=np.float64, threads=self.threads)
        return once.weigh(self.geometry.affine[index, :-1], vector)

    def _of_updates(self, of_points: NDArray[Any]) -> NDArray[Any]:
        """Return what weights of the points (..., p) come to as weights of the n updates."""
        for mixing in reversed(self.points.mixings):
            of_points = of_points @ mixing
        return of_points[..., : self.n]

    def reduce(
        self,
        function: ColumnFunction,
        select: Matrix | None = None,
        *,
        tensors: bool = False,
        shares: Shares | None = None,
    ) -> FloatArray:
        """Return the (d,) results of a function of columns of the rows.

        Parameters
        ----------
        function : callable
            Takes a block (m, columns), which it may overwrite, and fills a result (columns,).
        select : (m', m) float64 array, optional
            The function gets ``select @ rows`` in place of the rows.
        tensors : bool
            Whether the function takes torch tensors too; otherwise the pass runs on the CPU, wherever others do.
        shares : callable, optional
            Takes what the function gets, in float64, and returns the rows' mean coefficients: what reports call their
            weight.
        """
        mixing = self._mixing
        self.shares = None if shares is None else (shares, select)
        if select is not None:
            mixing = select @ self.geometry.mixing
            self.count_in((select != 0.0).any(axis=0).reshape(-1, 1))
        device = self.points.device if tensors else CPU
        data = self._pass(device, None, mixing)
        return self._after(data, data.write(function, self._vector()))

    def scan(
        self,
        function: BlockFunction[T],
        make: Callable[[int], T],
        merge: Merge[T] | None = None,
        *,
        dtype: type | None = None,
        columns: tuple[int, int] | None = None,
        tensors: bool = False,
    ) -> T:
        """Read the rows once and return what was found.

        Parameters
        ----------
        function : callable
            Called with a block of the m rows, which it may overwrite, its first column, and what has been found in
            the blocks before it, which it adds to.
        make : callable
            Takes the width of a block, and makes what threads start with; `zeros` makes arrays.
        merge : callable, optional
            Adds what was found behind to what was found before; by default arrays are summed up.
        dtype : type, optional
            Of the blocks; by default the updates'.
        columns : (start, stop), optional
            Only these columns.
        tensors : bool
            Whether the function takes torch tensors too; otherwise the pass runs on the CPU, wherever others do.
        """
        data = self._pass(self.points.device if tensors else CPU, dtype, self._mixing, columns)
        return self._after(data, data.read(function, make, merge))

    def take(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return these columns (ascending) of the m rows, (m, len(columns)); only they are read."""
        return self._rows_of(self._taken(columns))

    def sample(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield some columns, always the same, spread over all arrays in proportion; and the points in them."""
        columns = sampled_columns(self.d)
        for start in range(0, len(columns), AT_A_TIME):
            here = columns[start : start + AT_A_TIME]
            yield here, self._taken(here)

    def weights_in(self, taken: NDArray[np.float64]) -> Weights | None:
        """Return each update's mean coefficient in columns of the points; None where the rule does not say."""
        if self.shares is None:
            return None
        function, select = self.shares
        rows = self._rows_of(taken)
        found = function(rows if select is None else select @ rows)
        if found is None:
            return None
        return self._of_updates((found if select is None else found @ select) @ self.geometry.unclipped)

    def _taken(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        taken = self.points.take(columns).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(taken).all(axis=1))
        if bad.size:
            raise NonFiniteRowsError(bad.tolist())
        return taken

    def _rows_of(self, taken: NDArray[np.float64]) -> NDArray[np.float64]:
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

    def _vector(self) -> FloatArray:
        return np.empty(self.d, self.dtype)

    def _pass(
        self,
        device: Device,
        dtype: type | None,
        mixing: Matrix | None = None,
        columns: tuple[int, int] | None = None,
    ) -> Pass:
        squares = np.empty(self.points.n) if self.norms is None else None
        return Pass(self.points, device, mixing, dtype, self.threads, columns, squares)

    def _after(self, data: Pass, found: T) -> T:
        """Count the pass, look for rows that are not finite in what it summed up, and return what was found."""
        whole = data.columns is None
        self.passes += whole
        if data.squares is not None and (whole or not np.isfinite(data.squares).all()):
            norms = norms_of(self.points, data.squares, self.threads)
            if whole:
                self.norms = norms[: self.n]
        return found


def mix_rows(updates: Updates, mixing: Matrix, threads: int | None = None) -> FloatArray:
    """Return ``mixing @ rows`` as an (m, d) array: for those who need all rows at once."""
    out = np.empty((len(mixing), updates.d), updates.dtype)

    def store(block: Block, start: int, _: None) -> None:
        operations.store(block, out[:, start : start + block.shape[1]])

    Pass(updates, updates.device, mixing, np.float64, threads).read(store, lambda _: None, nothing_to_merge)
    return out


def sampled_columns(d: int) -> NDArray[np.int64]:
    """Return at most `SAMPLE` of d columns, one from each of as many equal pieces; all where there are no more."""
    if d <= SAMPLE:
        return np.arange(d)
    count = min(SAMPLE, max(LEAST_SAMPLE, d // SAMPLE))
    within = np.random.default_rng(0).random(count)
    return ((np.arange(count) + within) * (d / count)).astype(np.int64)


def window_shares(block: NDArray[np.float64], first: Any, last: Any) -> Weights:
    """Return each row's mean coefficient (rows,) where columns average their sorted values ``first:last``.

    Values that are equal share what they get.

    Parameters
    ----------
    block : (rows, columns) float64 array
    first, last : int, or (columns,) array of int
    """
    ordered, columns = np.sort(block, axis=0), np.arange(block.shape[1])
    low, high = ordered[first, columns], ordered[last - 1, columns]
    under_low, at_low = (block < low).sum(axis=0), block == low
    under_high, at_high = block < high, (block == high) & (low < high)
    numbers_low, numbers_high = at_low.sum(axis=0), at_high.sum(axis=0)
    of_low = np.minimum(under_low + numbers_low, last) - first
    of_high = last - np.maximum(under_high.sum(axis=0), first)
    each = 1.0 / (np.zeros(len(columns)) + last - first) / max(1, len(columns))
    inside = (under_high & (block > low)) @ each
    found: Weights = (
        inside + at_low @ (each * of_low / numbers_low) + at_high @ (each * of_high / np.maximum(numbers_high, 1))
    )
    return found


def nearest_shares(block: NDArray[np.float64], keep: int) -> Weights:
    """Return each row's mean coefficient where columns average the `keep` values nearest to their median."""
    ordered, rows = np.sort(block, axis=0), len(block)
    middle = (ordered[(rows - 1) // 2] + ordered[rows // 2]) / 2
    # Nearest values stand side by side: each one that is farther than the one behind the window is given up.
    first = (ordered[keep:] - middle < middle - ordered[: rows - keep]).sum(axis=0)
    return window_shares(block, first, first + keep)
