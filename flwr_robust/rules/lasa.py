"""LASA: sparsify each row, then filter and average layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.passes import BlockReader
from flwr_robust.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import check_positive
from flwr_robust.rules.coordinatewise import Median
from flwr_robust.rules.lasa_cut import Cut
from flwr_robust.rules.lasa_survey import dtype_of, survey
from flwr_robust.updates import FloatArray, Layer, Updates, pieces

Booleans = NDArray[np.bool_]


class LASA(Rule):
    r"""Layer-adaptive sparsified model aggregation.

    $$[F(X)]_\ell = \frac{1}{|G_\ell|} \sum_{i \in G_\ell} [\operatorname{top}_k(x_i)]_\ell$$

    where G_l are the rows that pass in layer l.
    Each row keeps its k = (1 - sparsity) d largest absolute values (of equal ones at the edge the first
    columns). Per layer a row passes if its L2 norm and its positive direction purity,
    ``1/2 (1 + (plus - minus) / (plus + minus))`` over the signs of its values, both have an MZ-score
    ``(x - median) / standard deviation`` within their radius; the layer is the mean of the sparsified rows
    that pass, or their coordinate-wise median where none does. A layer without a nonzero value has purity
    1/2; where all rows agree the score is 0. Needs n >= 3 and takes no f.

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
    takes_f = False
    requirement = "n >= 3"
    source = "LASA Alg. 1"
    breakdown = "not proven"
    cost = "2, and a sample of the columns"

    def __init__(self, sparsity: float = 0.3, magnitude_radius: float = 2.0, direction_radius: float = 1.0) -> None:
        super().__init__()
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0.0 <= sparsity < 1.0:
            raise ValueError(f"LASA was given sparsity = {sparsity!r}; give a number in [0, 1).")
        self.sparsity = float(sparsity)
        self.magnitude_radius = check_positive(magnitude_radius, "magnitude_radius", "LASA")
        self.direction_radius = check_positive(direction_radius, "direction_radius", "LASA")

    def least_rows(self, f: int) -> int:
        """See `Stage.least_rows`."""
        return 3

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        defaults = {"sparsity": 0.3, "magnitude_radius": 2.0, "direction_radius": 1.0}
        return {key: getattr(self, key) for key, value in defaults.items() if getattr(self, key) != value}

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        keep = rows.d - int(self.sparsity * rows.d + 1e-9)
        cut, statistics = survey(rows, keep)
        passed = _within(statistics.norms, self.magnitude_radius)
        passed &= _within(statistics.purity, self.direction_radius)
        rows.count_in(passed | ~passed.any(axis=0))
        make = partial(
            _Average, layers=rows.layers, cut=cut, passed=passed, vector=np.empty(rows.d, rows.updates.dtype)
        )
        return rows.scan(make, dtype=dtype_of(rows))[0].vector


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


class _Average(BlockReader):
    """Mean of the sparsified rows that pass, layer by layer; their median where none does."""

    def __init__(
        self,
        updates: Updates,
        width: int,
        *,
        layers: Sequence[Layer],
        cut: Cut,
        passed: Booleans,
        vector: FloatArray,
        **options: Any,
    ) -> None:
        super().__init__(updates, width, **options)
        self.layers, self.cut, self.passed, self.vector = layers, cut, passed, vector

    def use(self, start: int, stop: int, block: FloatArray) -> None:
        """See `BlockReader.use`."""
        from flwr_robust import kernels

        edges = self.cut.edges(block.dtype)
        for layer, first, last, at in pieces(self.layers, start, stop):
            result = np.zeros(last - first)
            which = np.flatnonzero(self.passed[:, layer])
            if which.size:
                kernels.add_sparsified(block, start, which, at, edges, self.cut.last_tie, result)
                result /= which.size
            else:
                part = np.ascontiguousarray(block[:, at : at + last - first])
                self.cut.apply(part, start + at)
                Median().reduce(part, 0, result)
            self.vector[start + at : start + at + last - first] = result
