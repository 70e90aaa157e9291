"""Attacks that draw Gaussian noise (LASA 7.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flwr_robust.rules.checks import number

from .base import Attack
from .draws import Draws
from .moments import Matrix
from .sight import Sight
from .tuning import OPTIMAL, Tunable


@dataclass(frozen=True)
class Randomised(Attack):
    """An attack that draws anew in each round, from a seed.

    Parameters
    ----------
    seed : int, optional
        Rounds with the same number draw the same. None: from the operating system.
    """

    seed: int | None = field(default=None, kw_only=True)
    draws: Draws = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", Draws(self.seed, type(self).__name__))

    def draw_for(self, *place: int) -> None:
        self.draws.move_to(*place)

    def reset(self) -> None:
        self.draws.move_to()

    def state(self) -> dict[str, NDArray[Any]]:
        return self.draws.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.draws.load_state(state)


@dataclass(frozen=True)
class Random(Randomised, Tunable):
    """Send Gaussian noise: ``b_i ~ N(0, std^2 I)``, each node its own (LASA 7.3).

    Parameters
    ----------
    std : float or "optimal"
        Standard deviation, 0 or more.
    seed : int, optional
        See `Randomised`.

    Examples
    --------
    >>> Random(std=0.5, seed=1)(np.zeros((3, 2)), f=1).shape
    (1, 2)
    """

    std: float | str = 0.5

    knows = "own"
    tuned: ClassVar[str] = "std"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std != OPTIMAL:
            number(self.std, "std", type(self).__name__, at_least=0)
        Tunable.__post_init__(self)

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return 0.01 to 100 times what makes noise as long as an honest update, five a decade."""
        usual = float(np.median(np.linalg.norm(sight.known, axis=1))) / max(sight.known.shape[1], 1) ** 0.5
        return tuple(usual * 10 ** (step / 5) for step in range(-10, 11)) if usual else ()

    def craft_with(self, sight: Sight) -> Matrix:
        rows = sight.honest
        # float32 noise for float32 rows: half the memory and time.
        dtype = np.float64 if rows.dtype == np.float64 else np.float32
        noise: Matrix = self.draws.next().standard_normal((sight.f, rows.shape[1]), dtype=dtype)
        noise *= float(self.std)
        return noise


@dataclass(frozen=True)
class Gaussian(Random):
    """Send ``N(mean, std^2)`` in each coordinate, each node its own (Blanchard et al., NeurIPS 2017).

    Parameters
    ----------
    std : float or "optimal"
        Standard deviation, 0 or more.
    mean : float
        Any finite number.
    seed : int, optional
        See `Randomised`.

    Examples
    --------
    >>> Gaussian(std=0.0, mean=3.0)(np.zeros((3, 2)), f=1)
    array([[3., 3.]])
    """

    std: float | str = 200.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.mean, "mean", "Gaussian")

    def craft_with(self, sight: Sight) -> Matrix:
        return super().craft_with(sight) + float(self.mean)


@dataclass(frozen=True)
class Noise(Random):
    """Add Gaussian noise to one's own update: ``b_i = x_i + N(0, std^2 I)`` (LASA 7.3).

    Where the nodes' own updates are not known, the honest mean stands for each.

    Parameters
    ----------
    std : float or "optimal"
        Standard deviation, 0 or more.
    seed : int, optional
        See `Randomised`.
    """

    def craft_with(self, sight: Sight) -> Matrix:
        noise = super().craft_with(sight)
        noise += sight.own
        return noise
