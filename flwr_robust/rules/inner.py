"""What rules make of the inner products of rows: differences from a weighted sum, angles, means of chosen rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import Matrix, Weights

# Squared distances below this share of the squared norms are rounding.
ROUNDING = 64 * np.finfo(np.float64).eps
# A cosine distance below this is measured by the distance of the rows: it would drown in the rounding of 1 - cos.
NARROW = 0.01


def relative(inner: Matrix, weights: Weights) -> Matrix:
    """Inner products of the rows relative to ``weights @ rows``; the weights add up to one."""
    products = inner @ weights
    found: Matrix = inner - products[:, None] - products[None, :] + weights @ products
    return (found + found.T) / 2.0


def distances_from(inner: Matrix, weights: Weights) -> Weights:
    """(m,) distances of the rows from ``weights @ rows``; what is rounding is zero."""
    products = inner @ weights
    square, sizes = float(weights @ products), inner.diagonal()
    squares = sizes - 2.0 * products + square
    found: Weights = np.sqrt(np.where(squares <= ROUNDING * (sizes + square), 0.0, squares))
    return found


def cosines(inner: Matrix) -> Matrix:
    """(m, m) cosines of the angles between the rows, from inner products relative to zero; 0 beside a zero row."""
    norms = np.sqrt(inner.diagonal())
    there = norms > 0
    safe = np.where(there, norms, 1.0)
    # One norm after the other: their product could leave the range of float64.
    found: Matrix = np.where(there[:, None] & there[None, :], inner / safe[:, None] / safe[None, :], 0.0)
    return np.clip(found, -1.0, 1.0)


def cosine_distances(inner: Matrix, squared_distances: Matrix) -> Matrix:
    """(m, m) cosine distances ``1 - cos``, zero on the diagonal; inner products are relative to zero.

    For narrow angles ``(|a - b|^2 - (|a| - |b|)^2) / (2 |a| |b|)``, with distances that know more digits.
    """
    found = 1.0 - cosines(inner)
    squares = inner.diagonal()
    norms = np.sqrt(squares)
    sums = np.maximum(norms[:, None] + norms[None, :], np.finfo(np.float64).tiny)
    differences = (squares[:, None] - squares[None, :]) / sums
    narrow = (found < NARROW) & (2.0 * np.abs(differences) < sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (squared_distances - differences**2) / norms[:, None] / norms[None, :] / 2.0
    found[narrow] = np.maximum(exact[narrow], 0.0)
    np.fill_diagonal(found, 0.0)
    return found


def mean_of(chosen: Sequence[int] | NDArray[np.int64] | NDArray[np.bool_], count: int) -> Weights:
    """Weights (count,) of the mean of the chosen rows, given by number or as a mask."""
    weights = np.zeros(count)
    weights[chosen] = 1.0
    weights /= weights.sum()
    return weights
