"""Reading rows where they lie: one call for all rows of a block.

Threads that enter and leave compiled code for each row spend their time handing Python's lock to each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic
from numpy.typing import NDArray

from flwr_robust.kernels.sums import SUMS, add_weighted

# Columns that rows are added up at a time: their float64 sums stay there while all rows pass by.
WIDE_STRIP = 2048


@intrinsic
def _typed_pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """Return an address as a pointer to values of an array's dtype."""
    kind: Any = types.CPointer(like.dtype)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, like), generate


# Called without the typing context, which numba fills in.
pointer: Any = _typed_pointer


@njit(nogil=True, cache=True)
def read_rows(
    addresses: NDArray[np.uint64], sent: np.uint64, first: int, count: int, out: NDArray[Any], at: int
) -> None:
    """Copy `count` values of each row, from its value `first` on, to column `at` of ``out`` (rows, columns).

    The values at the address `sent`, if it is not zero, are taken off. Rows and these are arrays of ``out``'s dtype,
    each in one piece, at these addresses.
    """
    offset = np.uint64(first * out.itemsize)
    for i in range(addresses.size):
        values = carray(pointer(addresses[i] + offset, out), (count,))
        row = out[i]
        if sent != 0:
            base = carray(pointer(sent + offset, out), (count,))
            for c in range(count):
                row[at + c] = values[c] - base[c]
        else:
            for c in range(count):
                row[at + c] = values[c]


@njit(nogil=True, cache=True, fastmath=SUMS)
def weigh_rows(
    addresses: NDArray[np.uint64],
    sent: np.uint64,
    first: int,
    count: int,
    weights: NDArray[np.float64],
    like: NDArray[Any],
    out: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add the weighted rows to ``out`` (count,) and their squares to ``squares`` (rows,), in float64.

    Addresses are as in `read_rows`, of values of the dtype of `like`; differences to what was sent are taken in it.
    """
    for start in range(0, count, WIDE_STRIP):
        width = min(WIDE_STRIP, count - start)
        target = out[start : start + width]
        offset = np.uint64((first + start) * like.itemsize)
        for i in range(addresses.size):
            values = carray(pointer(addresses[i] + offset, like), (width,))
            weight, total = weights[i], 0.0
            if sent != 0:
                base = carray(pointer(sent + offset, like), (width,))
                for c in range(width):
                    value = np.float64(values[c] - base[c])
                    target[c] += weight * value
                    total += value * value
            else:
                total = add_weighted(values, weight, target)
            squares[i] += total
