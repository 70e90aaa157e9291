"""The rows that a rule is given: what the pre-aggregations made of the updates, and the passes over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.devices import CPU
from flwr_robust.geometry import Geometry, Matrix
from flwr_robust.mixer import Mixer
from flwr_robust.parallel import for_blocks
from flwr_robust.passes import (
    BlockReader,
    ColumnFunction,
    NonFiniteRowsError,
    Weights,
    add_up,
    combine,
    reduce,
    row_norms,
    squared_lp_distances,
)
from flwr_robust.updates import FloatArray, Layer, Updates

B = TypeVar("B", bound=BlockReader)


class Rows:
    """m rows that are linear combinations of n updates (and of k anchors that a rule remembers).

    Attributes
    ----------
    geometry : Geometry
        Norms and distances of the m rows, as far as the chain said that it needs them.
    weights : (n,) float64 array or None
        Weights of the updates in the aggregate; None unless `combine` made it.
    used : (n,) float64 array or None
        Share of the layers in which each update counted; None unless the rule told it to `count_in`.
    update_norms : (n,) float64 array or None
        Norms of the updates; known after the first pass over all columns.
    mixed : bool
        Whether the rows differ from the updates, or may.
    passes : int
        Passes over the data so far, those of the measuring included.
    """

    def __init__(
        self,
        updates: Updates,
        geometry: Geometry,
        *,
        anchors: int = 0,
        mixed: bool = True,
        update_norms: NDArray[np.float64] | None = None,
        passes: int = 0,
        threads: int | None = None,
    ) -> None:
        self.updates, self.geometry, self.anchors, self.threads = updates, geometry, anchors, threads
        self.update_norms, self.passes = update_norms, passes
        self.weights: Weights | None = None
        self.used: Weights | None = None
        self.mixed = mixed

    @property
    def count(self) -> int:
        """Number of rows, m."""
        return self.geometry.rows

    @property
    def d(self) -> int:
        """Number of columns."""
        return self.updates.d

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The model's arrays, in column order."""
        return self.updates.layers

    def with_anchors(self) -> Geometry:
        """Return the geometry of the m rows and, below them, the k anchors."""
        affine, points = self.geometry.affine, len(self.geometry.gram)
        below = np.eye(points)[points - 1 - self.anchors : points - 1]
        return Geometry(self.geometry.gram, np.vstack([affine, below]), self.geometry.unit)

    def combine(self, weights: Weights) -> FloatArray:
        """Return the weighted sum (d,) of the m rows, or of the m rows and k anchors.

        Parameters
        ----------
        weights : (m,) or (m + k,) float64 array
        """
        affine = self.geometry.affine if len(weights) == self.count else self.with_anchors().affine
        points = weights @ affine[:, :-1]
        self.weights = points[: self.updates.n - self.anchors]
        vector, squares = combine(self.updates, points, self.threads, check=self._unchecked)
        self._after(squares)
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
        mixing = self._mixing if select is None else select @ self.geometry.mixing
        if select is not None:
            self.count_in((select != 0.0).any(axis=0).reshape(-1, 1))
        device = self.updates.device if tensors else CPU
        vector, squares = reduce(self.updates, function, mixing, self.threads, check=self._unchecked, device=device)
        self._after(squares)
        return vector

    def count_in(self, kept: NDArray[np.bool_]) -> None:
        """Say which of the m rows count in which layer, (m, layers): an update counts where such a row holds it."""
        holds = self.geometry.mixing != 0.0
        counted = (holds.T.astype(np.int64) @ kept) > 0
        self.used = counted.mean(axis=1)[: self.updates.n - self.anchors]

    def row(self, index: int) -> FloatArray:
        """Return a copy of one of the m rows in full, (d,): float64 if it is mixed; not counted as a pass.

        It is made where the updates lie: to send them elsewhere takes longer.
        """
        dtype = np.float64 if self.mixed else None
        device = CPU if self.updates.tensor is None else self.updates.device
        weights = self.geometry.affine[index, :-1]
        vector, _ = combine(self.updates, weights, self.threads, dtype=dtype, device=device)
        return vector

    def take(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return these columns (ascending) of the m rows, (m, len(columns)); only they are read."""
        taken = self.updates.take(columns).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(taken).all(axis=1))
        if bad.size:
            raise NonFiniteRowsError(bad.tolist())
        return self.geometry.mixing @ taken if self.mixed else taken

    def scan(
        self, make: Callable[..., B], *, dtype: type | None = None, columns: tuple[int, int] | None = None
    ) -> list[B]:
        """Read the rows once, on the CPU, and return the threads' readers, in a fixed order.

        Parameters
        ----------
        make : callable
            A subclass of `BlockReader`, or a function that passes its arguments on to one: called as
            ``make(updates, width, mixer=..., dtype=..., check=...)``. Its `use` gets blocks of the m rows.
        dtype : type, optional
            Of the blocks; by default the updates'.
        columns : (start, stop), optional
            Only these columns.
        """
        mixer = Mixer(self.geometry.mixing) if self.mixed else None
        workers = for_blocks(
            self.updates,
            lambda width: make(self.updates, width, mixer=mixer, dtype=dtype, check=self._unchecked),
            self.threads,
            columns,
        )
        self._after(add_up([worker.squares for worker in workers]), whole=columns is None)
        return workers

    def lp_distances(self, p: float) -> Matrix:
        """Return the (m, m) squared lp distances of the rows, relative to the largest; one pass."""
        self.passes += 1
        return squared_lp_distances(self.updates, self.geometry.mixing, p, self.threads)

    @property
    def _mixing(self) -> Matrix | None:
        return self.geometry.mixing if self.mixed else None

    @property
    def _unchecked(self) -> bool:
        return self.update_norms is None

    def _after(self, squares: NDArray[np.float64], *, whole: bool = True) -> None:
        """Count the pass, and check what the first one over all columns found."""
        self.passes += whole
        if self._unchecked and (whole or not np.isfinite(squares).all()):
            norms = row_norms(self.updates, squares, self.threads)
            if whole:
                self.update_norms = norms[: self.updates.n - self.anchors]
