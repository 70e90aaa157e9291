from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules.data import assert_close, matrix


def test_without_malicious_rows_it_is_the_mean():
    X = matrix("normal", 7, 9, seed=1, dtype=np.float64)
    assert_close(rules.CAF(0)(X), X.mean(axis=0), X, 1e-12)
    assert np.array_equal(rules.CAF(0)(np.ones((1, 3))), np.ones(3))


def test_rows_that_agree_end_it():
    assert_close(rules.CAF(2)(np.full((7, 4), 3.0)), np.full(4, 3.0), np.ones(4), 1e-12)


@pytest.mark.parametrize("size", [1e2, 1e6, 1e12, 1e30])
def test_far_rows_of_any_size_are_left_out_and_blur_nothing(size):
    rng = np.random.default_rng(1)
    honest = rng.standard_normal((15, 20))
    X = np.vstack([honest, size * rng.standard_normal((5, 20))])
    found = rules.CAF(5)(X.astype(np.float32) if size == 1e30 else X)
    assert np.linalg.norm(found - honest.mean(axis=0)) < 1.5
    assert_close(rules.CAF(5)(X[::-1]), rules.CAF(5)(X), X[:15], 1e-6)
