"""Norm clipping, with noise if asked for: weak differential privacy."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows, clip_factors
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.noise import add_noise
from flwr_robust.rules.randomness import Random


class NormClipping(Random, Rule):
    r"""Mean of the rows, clipped to a norm, plus Gaussian noise.

    $$F(X) = \frac{1}{n} \sum_{i=1}^{n} \min\left(1, \frac{C}{\lVert x_i \rVert}\right) x_i
    + \mathcal{N}(0, \sigma^2 I)$$

    Needs n >= 1. A malicious row still counts with the norm C.

    Source: Sun, Kairouz, Suresh and McMahan, Can You Really Backdoor Federated Learning?, 2019. FLPoison adds noise to
    each row, so that the mean's is sqrt(n) smaller than stated; FedML's weak privacy does not clip.

    Parameters
    ----------
    max_norm : float, optional
        C, the largest norm that a row may keep; by default the median norm.
    std : float
        Standard deviation of the noise on each coordinate; 0 for none.
    seed : int, optional
        Seed of the noise; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.NormClipping(max_norm=2.0)(np.array([[1.0], [900.0]]))
    array([1.5])
    """

    name = "norm-clipping"
    needs = Needs.NORMS
    takes_f = False
    requirement = "n >= 1"
    source = "Sun et al., 2019"
    breakdown = "not proven"
    cost = "2"

    def __init__(self, max_norm: float | None = None, std: float = 0.0, seed: int | None = None) -> None:
        super().__init__()
        self.max_norm = None if max_norm is None else number(max_norm, "max_norm", "NormClipping", above=0)
        self.std = number(std, "std", "NormClipping", at_least=0)
        self.seed = whole_number(seed, "seed", "NormClipping", at_least=0, or_none=True)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        norms = rows.geometry.norms
        threshold = float(np.median(norms)) if self.max_norm is None else self.max_norm / rows.geometry.unit
        vector = rows.combine(clip_factors(norms, threshold) / rows.count)
        if self.std:
            add_noise(vector, self.std, rows.generator())
        return vector
