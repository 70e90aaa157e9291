"""MeanShift of our own beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import MeanShift, estimate_bandwidth

from flwr_robust.rules.mean_shift import bandwidth_of, mean_shift


def clouds(n: int, groups: int, spread: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(groups, 3))[rng.integers(groups, size=n)] + spread * rng.normal(size=(n, 3))


@pytest.mark.parametrize("spread", [0.05, 0.5])
@pytest.mark.parametrize(("n", "groups"), [(3, 1), (17, 3), (40, 5)])
def test_same_clusters_as_scikit_learn(n, groups, spread):
    for seed in range(4):
        points = clouds(n, groups, spread, seed)
        for quantile in (0.1, 0.5, 0.9):
            bandwidth = bandwidth_of(points, quantile)
            assert bandwidth == pytest.approx(estimate_bandwidth(points, quantile=quantile), abs=1e-7)
            if bandwidth > 0:
                expected = MeanShift(bandwidth=bandwidth).fit(points).labels_
                np.testing.assert_array_equal(mean_shift(points, bandwidth), expected)


def test_two_clouds_by_hand():
    points = np.array([[0.0, 0.0], [0.2, 0.0], [0.1, 0.1], [5.0, 5.0], [5.1, 5.0]])
    assert mean_shift(points, 1.0).tolist() == [0, 0, 0, 1, 1]
