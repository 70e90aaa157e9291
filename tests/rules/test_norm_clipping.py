from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


def test_a_given_norm():
    X = matrix("hostile", 9, 40, seed=1, dtype=np.float64)
    assert_close(rules.NormClipping(2.0)(X), references.norm_clipping(X, 2.0), X)


def test_the_noise_is_the_means():
    X = np.zeros((16, 100_000), np.float32)
    rule = rules.NormClipping(max_norm=1.0, std=0.25, seed=1)
    first, second = rule(X), rule(X)
    assert first.std() == pytest.approx(0.25, rel=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    rule.reset()
    assert np.array_equal(rule(X), first)


def test_noise_stays_within_the_dtype():
    X = np.full((3, 50), 3.4e38, np.float32)
    assert np.isfinite(rules.NormClipping(max_norm=1e300, std=1e300, seed=1)(X)).all()
