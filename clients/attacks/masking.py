"""An attack by sizes alone: the first malicious update hides the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flwr_robust.rules.checks import number

from .base import Attack
from .moments import Matrix
from .sight import Sight


@dataclass(frozen=True)
class Masking(Attack):
    r"""Send one huge update against the honest mean, in whose shadow the other large ones pass (ours).

    $$b_1 = s_1 r u, \qquad b_2 = \dots = b_f = s_2 r u$$

    u is minus the honest mean at length 1 (the first axis, where the mean is zero), r the median honest norm (1, where
    that is zero). A method that centres by a mean, or scales by a deviation, sees only the first one.

    Parameters
    ----------
    scales : (float, float)
        Both above 0.

    Examples
    --------
    >>> Masking(scales=(100.0, 10.0))(np.array([[1.0], [3.0]]), 2)
    array([[-200.],
           [ -20.]])
    """

    scales: Sequence[float] = (1e6, 1e4)

    knows = "honest"

    def __post_init__(self) -> None:
        if isinstance(self.scales, str) or not isinstance(self.scales, Sequence | np.ndarray) or len(self.scales) != 2:
            raise ValueError(f"Masking was given scales = {self.scales!r}; give two numbers above 0.")
        both = tuple(number(scale, f"scales[{place}]", "Masking", above=0) for place, scale in enumerate(self.scales))
        object.__setattr__(self, "scales", both)

    def craft(self, sight: Sight) -> Matrix:
        mean = sight.mean
        length = float(np.linalg.norm(mean))
        against = -mean / length if length > 0 else np.eye(1, len(mean))[0]
        usual = float(np.median(np.linalg.norm(sight.known.astype(np.float64), axis=1))) or 1.0
        factors = np.where(np.arange(sight.f) == 0, *self.scales)
        with np.errstate(over="ignore"):
            return (factors[:, None] * (usual * against)).astype(sight.honest.dtype)
