"""SparseFed: clip, average, and let only the largest coordinates through; the rest waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rows import Rows
from flwr_robust.rules.base import Needs, Rule, State
from flwr_robust.rules.checks import check_positive
from flwr_robust.rules.clipping import clip_factors
from flwr_robust.updates import FloatArray

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
    requirement = "n >= 1"
    source = "LASA 2, 5"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, k: float = 0.5, max_norm: float | None = None, momentum: float = 0.9) -> None:
        super().__init__()
        self.k = check_positive(k, "k", "SparseFed")
        if self.k > 1.0:
            raise ValueError(f"SparseFed was given k = {k}; give a share of the coordinates in (0, 1].")
        self.max_norm = None if max_norm is None else check_positive(max_norm, "max_norm", "SparseFed")
        if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0.0 <= momentum < 1.0:
            raise ValueError(f"SparseFed was given momentum = {momentum!r}; give a number in [0, 1).")
        self.momentum = float(momentum)
        self._momentum: FloatArray | None = None
        self._error: FloatArray | None = None

    def options(self) -> dict[str, Any]:
        """See `Stage.options`."""
        defaults: dict[str, Any] = {"k": 0.5, "max_norm": None, "momentum": 0.9}
        return {key: getattr(self, key) for key, value in defaults.items() if getattr(self, key) != value}

    def reset(self) -> None:
        """Forget momentum and error."""
        self._momentum = self._error = None

    def state(self) -> State:
        """See `Stage.state`."""
        kept = {"momentum": self._momentum, "error": self._error}
        # Copies: the rule goes on in place.
        return {key: value.copy() for key, value in kept.items() if value is not None}

    def undo(self) -> Callable[[], None]:
        """See `Stage.undo`: nothing has changed where a call raises."""
        return lambda: None

    def load_state(self, state: State) -> None:
        """See `Stage.load_state`."""
        if state.keys() not in (set(), {"momentum", "error"}):
            raise ValueError(f"{self!r} was given the state {sorted(state)}; load the state of the same chain.")
        kept = (state.get(key) for key in ("momentum", "error"))
        self._momentum, self._error = (None if value is None else value.copy() for value in kept)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """See `Rule.aggregate`."""
        norms = rows.geometry.norms
        threshold = float(np.median(norms)) if self.max_norm is None else self.max_norm / rows.geometry.unit
        mean = rows.combine(clip_factors(norms, threshold) / rows.count)
        self._remember(mean)
        assert self._error is not None
        # The mean's memory serves for the output: beside its two memories the rule holds little more than one model.
        return _take_top(self._error, max(1, int(self.k * mean.size + 1e-9)), mean)

    def _remember(self, mean: FloatArray) -> None:
        """Move momentum and error on, in place."""
        if self._momentum is None or self._error is None or self._momentum.size != mean.size:
            self._momentum, self._error = mean.copy(), mean.copy()
            return
        if self._momentum.dtype != mean.dtype:
            self._momentum, self._error = self._momentum.astype(mean.dtype), self._error.astype(mean.dtype)
        largest = np.finfo(mean.dtype).max
        with np.errstate(over="ignore"):
            self._momentum *= self.momentum
            self._momentum += mean
            np.clip(self._momentum, -largest, largest, out=self._momentum)
            self._error += self._momentum
            np.clip(self._error, -largest, largest, out=self._error)


def _take_top(values: FloatArray, count: int, out: FloatArray) -> FloatArray:
    """Move the `count` largest values in absolute terms to `out`, whose other values become zero."""
    chosen = top(values, count, scratch=out)
    np.multiply(values, chosen, out=out)
    values[chosen] = 0.0
    return out


def top(values: FloatArray, count: int, scratch: FloatArray) -> NDArray[np.bool_]:
    """Which values are the `count` largest in absolute terms; of equal ones at the edge the first.

    `scratch` is like `values`, and overwritten.
    """
    if count >= values.size:
        return np.ones(values.size, dtype=bool)
    np.abs(values, out=scratch)
    scratch.partition(values.size - count)
    edge = scratch[values.size - count]
    chosen: NDArray[np.bool_] = values > edge
    chosen |= values < -edge
    missing = count - int(chosen.sum())
    for start in range(0, values.size, CHUNK):
        if not missing:
            break
        ties = np.flatnonzero(np.abs(values[start : start + CHUNK]) == edge)[:missing]
        chosen[start + ties] = True
        missing -= len(ties)
    return chosen
