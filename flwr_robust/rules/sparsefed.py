"""SparseFed: clip, average, and let only the largest coordinates through; the rest waits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.geometry import Needs, clip_factors
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number

# Values that are searched for ties at a time.
CHUNK = 2**20


class SparseFed(Rule):
    r"""Top-k of an error memory that gathers the momentum of clipped means.

    $$g = \frac{1}{n} \sum_{i=1}^{n} \min\left(1, \frac{C}{\lVert x_i \rVert}\right) x_i, \quad
    u \leftarrow \beta u + g, \quad e \leftarrow e + u, \quad F(X) = \operatorname{top}_{kd}(e)$$

    with the momentum beta; the output is the k d
    coordinates of e with the largest absolute values (of equal ones the first), which e then forgets.
    Momentum and error start at zero, also for a model of another size. Needs n >= 1.

    Source: LASA, sections 2 and 5 (Panda et al., 2022).

    Parameters
    ----------
    k : float
        Share of the coordinates that is kept, in (0, 1]; at least one coordinate is.
    max_norm : float, optional
        Clipping threshold C; by default the median norm of the rows.
    momentum : float
        In [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust.rules import SparseFed
    >>> rule = SparseFed(k=0.5, momentum=0.0)
    >>> rule(np.array([[3.0, 1.0]])), rule(np.array([[0.5, 1.0]]))
    (array([3., 0.]), array([0., 2.]))
    """

    name = "sparsefed"
    needs = Needs.NORMS
    takes_f = False
    remembers = ("momentum", "error")
    requirement = "n >= 1"
    source = "LASA 2, 5"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, k: float = 0.5, max_norm: float | None = None, momentum: float = 0.9) -> None:
        super().__init__()
        self.k = number(k, "k", "SparseFed", above=0, at_most=1)
        self.max_norm = None if max_norm is None else number(max_norm, "max_norm", "SparseFed", above=0)
        self.momentum = number(momentum, "momentum", "SparseFed", at_least=0, below=1)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        norms = rows.geometry.norms
        threshold = float(np.median(norms)) if self.max_norm is None else self.max_norm / rows.geometry.unit
        mean = rows.combine(clip_factors(norms, threshold) / rows.count)
        momentum, error = (_in_place(rows.remembered.get(name), mean) for name in self.remembers)
        largest = np.finfo(mean.dtype).max
        with np.errstate(over="ignore"):
            momentum *= self.momentum
            momentum += mean
            np.clip(momentum, -largest, largest, out=momentum)
            error += momentum
            np.clip(error, -largest, largest, out=error)
        rows.remember(momentum=momentum, error=error)
        # The mean's memory serves for the output: beside its two vectors the rule holds little more than one model.
        return _take_top(error, max(1, int(self.k * mean.size + 1e-9)), mean)


def _in_place(kept: FloatArray | None, mean: FloatArray) -> FloatArray:
    """Return a remembered vector, to be changed where it lies: nothing can fail any more once there is a mean."""
    if kept is None or kept.size != mean.size:
        return np.zeros_like(mean)
    return kept.astype(mean.dtype, copy=False)


def _take_top(values: FloatArray, count: int, out: FloatArray) -> FloatArray:
    """Move the `count` largest values in absolute terms to `out`, whose other values become zero."""
    chosen = top(values, count, scratch=out)
    np.multiply(values, chosen, out=out)
    values[chosen] = 0.0
    return out


def top(values: FloatArray, count: int, scratch: FloatArray) -> NDArray[np.bool_]:
    """Which values are the `count` largest in absolute terms; of equally large ones the first.

    `scratch` is like `values`, and overwritten.
    """
    if count >= values.size:
        return np.ones(values.size, dtype=bool)
    np.abs(values, out=scratch)
    scratch.partition(values.size - count)
    least = scratch[values.size - count]
    chosen: NDArray[np.bool_] = values > least
    chosen |= values < -least
    missing = count - int(chosen.sum())
    for start in range(0, values.size, CHUNK):
        if not missing:
            break
        ties = np.flatnonzero(np.abs(values[start : start + CHUNK]) == least)[:missing]
        chosen[start + ties] = True
        missing -= len(ties)
    return chosen
