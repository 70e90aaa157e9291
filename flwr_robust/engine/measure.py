"""Measuring: norms or a Gram matrix of updates, in float64, from one pass over them.

Rows whose spread is under a thousandth of their norm are measured a second time, relative to one of them: otherwise
their distances would drown in rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine import device as operations
from flwr_robust.engine.geometry import Geometry, Matrix, Needs, central_row
from flwr_robust.engine.passes import NonFiniteRowsError, Pass, keep_largest, zeros
from flwr_robust.engine.updates import Updates

# Squared spread over squared norm under which distances are measured again from within the rows.
CLOSE = 1e-6
# Squares of float64 values outside this range may over- or underflow.
TINY, HUGE = 1e-280, 1e280
# Units within which one over a unit is neither zero nor infinite.
SMALLEST_UNIT, LARGEST_UNIT = 1e-300, 1e300


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
