"""Aksel: the mean of the rows that are nearest to the coordinate-wise median."""

from __future__ import annotations

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.lp import distances_to
from flwr_robust.engine.rows import Rows, lowest
from flwr_robust.rules.base import Rule
from flwr_robust.rules.inner import mean_of
from flwr_robust.rules.median import column_medians

KEEP = ("half", "n-f")


class Aksel(Rule):
    r"""Mean of the rows that are nearest to the coordinate-wise median.

    $$F(X) = \frac{1}{|N|} \sum_{i \in N} x_i, \quad
    N \text{ the rows with the least } \lVert x_i - \operatorname{median}(X) \rVert$$

    Half of the rows, rounded up, or n - f of them; ties go to the lower index. A rotation changes the result. Needs
    n > 2f.

    Source: Boussetta, El-Mhamdi, Guerraoui, Maurer and Rouault, OPODIS 2020. The krum package has n - f rows alone.

    Parameters
    ----------
    f : int or float
        Rows that may be malicious, or their fraction in [0, 0.5).
    keep : str
        ``"half"``, the authors' own choice: those within the median distance; or ``"n-f"``.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.Aksel(f=1)(np.array([[1.0], [2.0], [6.0], [900.0]]))
    array([4.])
    """

    name = "aksel"
    source = "Aksel"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, f: int | float = 0, keep: str = "half") -> None:
        super().__init__(f)
        if keep not in KEEP:
            raise ValueError(f"Aksel was given keep = {keep!r}; choose from {', '.join(KEEP)}.")
        self.keep = keep

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        keep = (rows.count + 1) // 2 if self.keep == "half" else rows.count - f
        distances = distances_to(rows, column_medians, 2)
        return rows.combine(mean_of(lowest(distances, keep), rows.count))
