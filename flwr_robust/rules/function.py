"""A user's function as a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.run import GaveUpError


class Function(Rule):
    r"""A function of yours, ``(n, d) array -> (d,)``, as a rule.

    It gets all rows as one matrix, in the dtype of the updates: n x d values at once, which rules of this package
    never hold. Where it fails, or what it returns is not finite, the round is skipped.

    Parameters
    ----------
    function : callable
        Takes a matrix (n, d), which it may change, and returns a vector (d,).
    f : int or float
        Malicious rows to tolerate, for those who ask the rule; the function does not get it.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> halfway = rules.Function(lambda X: (X.min(axis=0) + X.max(axis=0)) / 2)
    >>> rules.chain(rules.ARC(f=1), halfway)(np.array([[1.0, 2.0], [3.0, 4.0], [2.0, 0.0]]))
    array([1.5, 1. ])
    """

    name = "function"
    requirement = "n >= 1"
    breakdown = "unknown"
    cost = "1, and a matrix of all rows"

    def __init__(self, function: Callable[[Any], Any], f: int | float = 0) -> None:
        if not callable(function):
            raise ValueError(f"Function was given {function!r}; give a function (n, d) array -> (d,).")
        super().__init__(f)
        self.function = function

    def __repr__(self) -> str:
        """Return the call that makes this rule, with the name of the function."""
        return f"Function({getattr(self.function, '__name__', repr(self.function))})"

    def least_rows(self, f: int) -> int:
        """Return 1."""
        return 1

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        """Return what the function makes of the matrix of all rows."""
        X = np.empty((rows.count, rows.d), rows.dtype)

        def keep(block: FloatArray, start: int, _: Any) -> None:
            X[:, start : start + block.shape[1]] = block

        rows.scan(keep, lambda width: None, lambda before, behind: None)
        name = getattr(self.function, "__name__", repr(self.function))
        try:
            vector = np.asarray(self.function(X), rows.dtype)
        except Exception as error:
            raise GaveUpError(f"{name} failed: {type(error).__name__}: {error}") from error
        if vector.shape != (rows.d,):
            raise ValueError(f"{name} returned an array of shape {vector.shape}; return one of ({rows.d},).")
        if not np.isfinite(vector).all():
            raise GaveUpError(f"{name} returned NaN or infinity")
        return vector
