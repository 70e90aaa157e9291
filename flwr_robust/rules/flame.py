"""FLAME: the majority of models by angle, clipped, averaged, with noise."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray, Matrix
from flwr_robust.engine.passes import Needs
from flwr_robust.engine.rows import Rows, clip_factors
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import number, whole_number
from flwr_robust.rules.clusters import majority_by_single_linkage
from flwr_robust.rules.inner import cosine_distances, mean_of
from flwr_robust.rules.noise import add_noise
from flwr_robust.rules.randomness import Random

# Distances that differ by less than this are equal.
SLACK = 1e-12


class FLAME(Random, Rule):
    r"""Mean of the rows whose models are in the majority by their angles, clipped to the median norm; plus noise.

    $$F(X) = \frac{1}{|C|} \sum_{i \in C} \min\left(1, \frac{S}{\lVert x_i \rVert}\right) x_i
    + \mathcal{N}(0, (\lambda S)^2 I), \quad S = \operatorname{median}_i \lVert x_i \rVert$$

    with the median over all rows. The paper's HDBSCAN with clusters of ``floor(n/2) + 1`` rows and ``min_samples`` of 1
    comes down to single linkage: C is the first cluster of so many rows that links of growing cosine distance make
    between the models ``model + x_i``. Needs n >= 1; without a model, zero takes its place.

    Source: Nguyen et al., USENIX Security 2022, Algorithm 1. FLPoison multiplies the noise by each tensor's own
    standard deviation as well, which the paper does not.

    Parameters
    ----------
    noise : float
        lambda, the noise in median norms; 0 for none.
    seed : int, optional
        Seed of the noise; by default from the operating system.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robust import rules
    >>> rules.FLAME(noise=0.0)(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, -9.0]])).round(3)
    array([1.833, 0.   ])
    """

    name = "flame"
    needs = Needs.DISTANCES
    takes_f = False
    optional = ("model",)
    measured = ("model",)
    requirement = "n >= 1"
    source = "FLAME Alg. 1"
    breakdown = "1/2"
    cost = "2"

    def __init__(self, noise: float = 0.001, seed: int | None = None) -> None:
        super().__init__()
        self.noise = number(noise, "noise", "FLAME", at_least=0)
        self.seed = whole_number(seed, "seed", "FLAME", at_least=0, or_none=True)

    def aggregate(self, rows: Rows, f: int) -> FloatArray:
        geometry = rows.geometry
        inner = inner_of_models(rows)[: rows.count, : rows.count]
        angles = cosine_distances(inner, geometry.squared_distances)
        kept = majority_by_single_linkage(angles, rows.count // 2 + 1, SLACK)
        median = float(np.median(geometry.norms))
        vector = rows.combine(mean_of(kept, rows.count) * clip_factors(geometry.norms, median))
        add_noise(vector, self.noise * median * geometry.unit, rows.generator())
        return vector


def inner_of_models(rows: Rows) -> Matrix:
    """Inner products, relative to zero, of the models ``model + x_i``, and of all that was measured with the rows.

    Without a model the rows themselves are the models.
    """
    inner, model = rows.with_remembered().inner_from_origin, rows.place("model")
    moved = np.eye(len(inner))
    if model is not None:
        moved[: rows.count, model] += 1.0
    found: Matrix = moved @ inner @ moved.T
    return found
