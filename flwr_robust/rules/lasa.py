"""LASA: sparsify each row, then filter and average layer by layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.kernels import signs as kernels
from flwr_robust.engine.passes import nothing_to_merge
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import pieces
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number
from flwr_robust.rules.lasa_thresholds import Thresholds, dtype_of, find_thresholds
from flwr_robust.rules.median import Median

Booleans = NDArray[np.bool_]


class LASA(Rule):
    r"""Layer-adaptive sparsified model aggregation.

    $$[F(X)]_\ell = \frac{1}{|G_\ell|} \sum_{i \in G_\ell} [\operatorname{top}_k(x_i)]_\ell$$

    where G_l are the rows that pass in layer l.
    Each row keeps its k = (1 - sparsity) d largest absolute values (of equally large ones the first
    columns). Per layer a row passes if its L2 norm and its positive direction purity,
    ``1/2 (1 + (plus - minus) / (plus + minus))`` over the signs of its values, both have an MZ-score
    ``(x - median) / standard deviation`` within their radius; the layer is the mean of the sparsified rows
    that pass, or their coordinate-wise median where none does. A layer without a nonzero value has purity
    1/2; where all rows agree the score is 0. Needs n >= 3 and takes no f.

    One row far away makes the standard deviation so large that others which are large pass: on its own this rule falls
    to one row at 10^6 times the honest ones' size beside two at 10^4. `ARC` or `StaticClipping` in front prevents it.

    Source: LASA, Algorithm 1, Definitions 1 to 3.

    Parameters
    ----------
    sparsity : float
        Share of each row that is set to zero, in [0, 1).
    magnitude_radius : float
        Largest absolute MZ-score of the norm.
    direction_radius : float
        Largest absolute MZ-score of the purity.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import LASA
    >>> X = np.array([[2.0, 1.0, 5.0], [2.0, 1.0, 5.0], [2.0, 1.0, 5.0], [-9.0, 9.0, 90.0]])
    >>> LASA(sparsity=0.34)(X, layers=[("a", 2), ("b", 1)])
    array([2., 0., 5.])
    """

    name = "lasa"
    masked = True
    takes_f = False
    requirement = "n >= 3"
    source = "LASA Alg. 1"
    breakdown = "not proven"
    cost = "2, and a sample of the columns"

    def __init__(self, sparsity: float = 0.3, magnitude_radius: float = 2.0, direction_radius: float = 1.0) -> None:
        super().__init__()
        self.sparsity = number(sparsity, "sparsity", "LASA", at_least=0, below=1)
        self.magnitude_radius = number(magnitude_radius, "magnitude_radius", "LASA", above=0)
        self.direction_radius = number(direction_radius, "direction_radius", "LASA", above=0)

    def least_rows(self, f: int) -> int:
        return 3

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        keep = rows.d - int(self.sparsity * rows.d + 1e-9)
        thresholds, statistics = find_thresholds(rows, keep)
        passed = _within(statistics.norms, self.magnitude_radius)
        passed &= _within(statistics.purity, self.direction_radius)
        rows.count_in(passed | ~passed.any(axis=0))
        shares = _shares(rows, passed)
        rows.shares, rows.shares_are_exact = ((lambda _: shares), None), bool(passed.any(axis=0).all())
        return _average(rows, thresholds, passed)


def _within(values: NDArray[np.float64], radius: float) -> Booleans:
    """Whether the MZ-score of each value (m, layers) among its column is within the radius."""
    # Of a row that is not finite nothing is finite: the pass names it, and the round is done again without it.
    with np.errstate(invalid="ignore"):
        median, deviation = np.median(values, axis=0), values.std(axis=0)
        # Values that agree up to rounding have no deviation to speak of.
        agree = deviation <= 1e-12 * np.abs(values).max(axis=0, initial=0.0)
        scores = (values - median) / np.where(agree, 1.0, deviation)
        passed: Booleans = agree | (np.abs(scores) <= radius * (1 + 1e-12))
    return passed


def _shares(rows: Rows, passed: Booleans) -> NDArray[np.float64]:
    """Return each row's mean coefficient, by the sizes of the layers in which it passed; alike where none did."""
    sizes = np.array([layer.size for layer in rows.layers], dtype=np.float64)
    counted = np.where(passed.any(axis=0), passed, True)
    found: NDArray[np.float64] = counted @ (sizes / counted.sum(axis=0) / max(1, rows.d))
    return found


def _average(rows: Rows, thresholds: Thresholds, passed: Booleans) -> FloatArray:
    """Return the mean of the sparsified rows that pass, layer by layer; their median where none does."""
    vector = np.empty(rows.d, rows.dtype)

    def average(block: FloatArray, start: int, _: None) -> None:
        bounds = thresholds.in_dtype(block.dtype)
        for layer, first, last, at in pieces(rows.layers, start, start + block.shape[1]):
            result = np.zeros(last - first)
            which = np.flatnonzero(passed[:, layer])
            if which.size:
                kernels.add_sparsified(block, start, which, at, bounds, thresholds.last_kept, result)
                result /= which.size
            else:
                part = np.ascontiguousarray(block[:, at : at + last - first])
                thresholds.apply(part, start + at)
                Median().reduce(part, 0, result)
            vector[start + at : start + at + last - first] = result

    rows.scan(average, lambda _: None, nothing_to_merge, dtype=dtype_of(rows))
    return vector
