from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules.clusters import majority_by_single_linkage
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_the_models_angles_count_not_the_updates(scale):
    for seed in range(20):
        X = matrix("normal", 9, 12, seed=seed, dtype=np.float64)
        model = scale * np.random.default_rng(seed).standard_normal(12)
        assert_close(rules.FLAME(noise=0.0)(X, model=model), references.flame(X, model), X)


def test_the_cluster_is_hdbscans():
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics.pairwise import cosine_distances

    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(4, 20))
        X = rng.standard_normal((n, 5)) + 2.0 * rng.integers(0, 2, (n, 1))
        far = cosine_distances(X)
        np.fill_diagonal(far, 0.0)
        labels = HDBSCAN(
            min_cluster_size=n // 2 + 1, min_samples=1, metric="precomputed", allow_single_cluster=True, copy=True
        ).fit_predict(far.copy())
        if (labels >= 0).any():
            assert majority_by_single_linkage(far, n // 2 + 1, 1e-12).tolist() == (labels >= 0).tolist()


def test_the_noise_is_relative_to_the_median_norm():
    X = np.ones((5, 100_000))
    noise = rules.FLAME(noise=0.01, seed=1)(X) - 1.0
    assert noise.std() == pytest.approx(0.01 * np.sqrt(100_000), rel=0.02)
