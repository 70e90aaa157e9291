from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules import clipped_clustering
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("max_norm", [None, 3.0])
@pytest.mark.parametrize("kind", ["normal", "hostile", "near"])
def test_all_norms_so_far_count(kind, max_norm):
    rounds = [matrix(kind, 8 - seed % 2, 20, seed=seed, dtype=np.float64) for seed in range(4)]
    rule = rules.ClippedClustering(max_norm)
    for X, expected in zip(rounds, references.clipped_clustering(rounds, max_norm), strict=True):
        assert_close(rule(X), expected, X)
    assert rule.state()["norms"].shape == (30,)


def test_the_oldest_norms_are_forgotten(monkeypatch):
    monkeypatch.setattr(clipped_clustering, "LIMIT", 10)
    rule = rules.ClippedClustering()
    for seed in range(3):
        X = matrix("normal", 6, 5, seed=seed, dtype=np.float64)
        rule(X)
    assert np.allclose(rule.state()["norms"][-6:], np.linalg.norm(X, axis=1))
    assert len(rule.state()["norms"]) == 10


def test_of_two_clusters_of_a_size_that_of_the_lowest_row_counts():
    X = np.array([[2.0, 0.0], [0.0, 1.0], [2.0, 0.1], [0.1, 1.0]])
    assert np.allclose(
        rules.ClippedClustering()(X), references.clip(X, np.median(np.linalg.norm(X, axis=1)))[[0, 2]].mean(axis=0)
    )
