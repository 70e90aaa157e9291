"""Where the values of updates lie in memory, so that one compiled call reads all rows of a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


class Part:
    """The arrays that hold the same columns of each row, and what is taken off them.

    Parameters
    ----------
    arrays : sequence of 1-D float arrays
        One a row; not copied.
    sent : 1-D float array or None
        The global model's values of these columns; None where the rows are updates themselves.
    dtype : dtype
        What is read: float32 or float64.
    """

    def __init__(self, arrays: Sequence[FloatArray], sent: FloatArray | None, dtype: np.dtype[Any]) -> None:
        self.arrays, self.sent, self.dtype = arrays, sent, dtype
        everything = [*arrays] if sent is None else [*arrays, sent]
        # Half precision, or an array that is not in one piece: such parts are read row by row.
        self.plain = all(_is_plain(array, dtype) for array in everything)
        if self.plain:
            self._addresses = np.array([address_of(array) for array in arrays], dtype=np.uint64)
            self._sent = np.uint64(0 if sent is None else address_of(sent))

    def read(self, first: int, last: int, rows: Sequence[int] | None, out: FloatArray, at: int) -> None:
        """Copy the columns ``first:last`` of `rows` (all by default) to column `at` of ``out`` (rows, columns)."""
        if self.plain:
            from flwr_robust import kernels

            addresses = self._addresses if rows is None else self._addresses[np.asarray(rows, dtype=np.intp)]
            kernels.read_rows(addresses, self._sent, first, last - first, out, at)
            return
        for place, row in enumerate(range(len(self.arrays)) if rows is None else rows):
            out[place, at : at + last - first] = self._piece(row, first, last)

    def accumulate(
        self,
        first: int,
        last: int,
        weights: NDArray[np.float64],
        out: NDArray[np.float64],
        squares: NDArray[np.float64] | None,
    ) -> None:
        """Add ``weights @ rows`` of the columns ``first:last`` to `out`, and the rows' squares to `squares`."""
        from flwr_robust import kernels

        rows = np.arange(len(weights)) if squares is not None else np.flatnonzero(weights)
        found = np.zeros(len(rows))
        if self.plain:
            like = np.empty(0, self.dtype)
            kernels.weigh_rows(self._addresses[rows], self._sent, first, last - first, weights[rows], like, out, found)
        else:
            for place, row in enumerate(rows.tolist()):
                found[place] = kernels.add_weighted(self._piece(row, first, last), weights[row], out)
        if squares is not None:
            squares[rows] += found

    def take(self, columns: NDArray[np.int64]) -> FloatArray:
        """Return a copy of these columns of all rows."""
        taken = np.empty((len(self.arrays), len(columns)), self.dtype)
        for row, array in enumerate(self.arrays):
            taken[row] = array[columns]
        if self.sent is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                taken -= self.sent[columns]
        return taken

    def _piece(self, row: int, first: int, last: int) -> FloatArray:
        values = self.arrays[row][first:last]
        if self.sent is None:
            return values.astype(self.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            # Without the dtype, half-precision arrays would be subtracted in half precision.
            return np.asarray(np.subtract(values, self.sent[first:last], dtype=self.dtype))


def _is_plain(array: FloatArray, dtype: np.dtype[Any]) -> bool:
    return array.dtype == dtype and array.dtype.isnative and array.flags.c_contiguous and array.flags.aligned


def address_of(array: NDArray[Any]) -> int:
    """Return the address of an array's first value, for compiled loops."""
    return int(array.__array_interface__["data"][0])
