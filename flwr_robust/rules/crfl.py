"""CRFL: clip the new model, and add noise to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.rows import Rows
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.noise import CHUNK, add_noise
from flwr_robust.rules.randomness import DRAWS, Random
from flwr_robust.rules.run import COLUMNS


class CRFL(Random, Rule):
    r"""Certifiably robust federated learning: the mean, such that the new model is clipped to a norm; plus noise.

    $$F(X) = \min\left(1, \frac{\rho_t}{\lVert w + \bar{x} \rVert}\right) (w + \bar{x}) - w
    + \mathcal{N}(0, \sigma^2 I), \quad \rho_t = \rho + g \, t$$

    with w the model that was sent and t = 1, 2, ... the number of the call. From call `rounds` on, which is the last
    one, there is no noise. Needs n >= 1 and the model.

    Source: Xie, Chen, Chen and Li, ICML 2021, Algorithm 1. FLPoison clips the mean update instead of the model.

    Parameters
    ----------
    max_norm : float
        rho, the largest norm of the model but for its growth.
    growth : float
        g, what the largest norm grows by in each call, the first one included.
    std : float
        Standard deviation of the noise on each coordinate; 0 for none.
    rounds : int, optional
        The first call without noise; by default there is none.
    seed : int, optional
        Seed of the noise; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.CRFL(max_norm=2.0, growth=0.0, std=0.0)(np.array([[4.0], [6.0]]), model=np.array([1.0]))
    array([1.])
    """

    name = "crfl"
    takes_f = False
    requires = ("model",)
    remembers = (DRAWS, "calls", COLUMNS)
    requirement = "n >= 1, the model"
    source = "CRFL Alg. 1"
    breakdown = "not proven"
    cost = "1"

    def __init__(
        self,
        max_norm: float = 2.0,
        growth: float = 0.1,
        std: float = 0.01,
        rounds: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.max_norm = number(max_norm, "max_norm", "CRFL", above=0)
        self.growth = number(growth, "growth", "CRFL", at_least=0)
        self.std = number(std, "std", "CRFL", at_least=0)
        self.rounds: int | None = whole_number(rounds, "rounds", "CRFL", or_none=True)
        self.seed = whole_number(seed, "seed", "CRFL", at_least=0, or_none=True)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        call = int(rows.remembered.get("calls", 0)) + 1
        vector = rows.combine(np.full(rows.count, 1.0 / rows.count))
        factor = _clip_model(rows.given["model"], vector, self.max_norm + self.growth * call)
        assert rows.weights is not None
        rows.weights *= factor
        if self.std and (self.rounds is None or call < self.rounds):
            add_noise(vector, self.std, rows.generator())
        rows.remember(calls=np.array(call))
        return vector


def _clip_model(model: FloatArray, step: FloatArray, max_norm: float) -> float:
    """Change the step such that the model behind it has at most this norm, and return what that is scaled by."""

    def moved(chunk: slice) -> NDArray[np.float64]:
        return model[chunk].astype(np.float64) + step[chunk]

    chunks = [slice(start, start + CHUNK) for start in range(0, step.size, CHUNK)]
    # Squares of values relative to the largest one stay finite.
    largest = max((float(np.abs(moved(chunk)).max()) for chunk in chunks), default=0.0) or 1.0
    norm = largest * float(np.sqrt(sum(float(np.square(moved(chunk) / largest).sum()) for chunk in chunks)))
    if norm <= max_norm:
        return 1.0
    for chunk in chunks:
        step[chunk] = moved(chunk) * (max_norm / norm) - model[chunk]
    return max_norm / norm
