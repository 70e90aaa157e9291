from __future__ import annotations

import numpy as np

from flwr_robust import rules
from tests.rules.data import assert_close, matrix


def test_by_hand():
    X = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 5.0], [-1.0, 0.0]])
    half = 1 / np.sqrt(2)
    expected = (2.0 * np.array([1.0, 0.0]) + half * 2.0 * np.array([half, half])) / (1 + half)
    assert np.allclose(rules.FLTrust()(X, root=np.array([2.0, 0.0])), expected)


def test_where_nobody_is_trusted_nothing_happens():
    X = matrix("normal", 5, 8, seed=1)
    assert not rules.FLTrust()(X, root=np.zeros(8)).any()
    assert not rules.FLTrust()(-np.abs(X), root=np.ones(8)).any()
    assert not rules.FLTrust()(np.zeros((3, 8)), root=np.ones(8)).any()


def test_the_roots_norm_bounds_the_output_and_the_rows_norms_do_not_count():
    root = np.random.default_rng(1).standard_normal(30)
    X = matrix("normal", 9, 30, seed=2, dtype=np.float64)
    scales = 10.0 ** np.random.default_rng(3).uniform(-20, 20, (9, 1))
    found = rules.FLTrust()(X, root=root)
    assert_close(rules.FLTrust()(scales * X, root=root), found, X, 1e-9)
    assert np.linalg.norm(found) <= np.linalg.norm(root)
    assert_close(rules.FLTrust()(1e30 * X.astype(np.float32), root=root), found, X)
