"""Matrices that rules find hard: ties, duplicates, zero rows, extreme scales, rows that nearly agree."""

from __future__ import annotations

import numpy as np

KINDS = ("normal", "hostile", "duplicates", "zeros", "tiny", "huge", "near", "integers")


def matrix(kind, n, d, seed, dtype=np.float32):
    rng = np.random.default_rng([seed, n, d])
    X = rng.standard_normal((n, d))
    if kind == "hostile":
        X[: (n - 1) // 2] *= 10.0 ** rng.uniform(0, 12, ((n - 1) // 2, 1))
    elif kind == "duplicates":
        X[rng.integers(0, n, n // 2)] = X[0]
    elif kind == "zeros":
        X[rng.permutation(n)[: n // 3]] = 0.0
    elif kind == "tiny":
        X *= 1e-20
    elif kind == "huge":
        X *= 1e15
    elif kind == "near":
        base = rng.standard_normal(d)
        X = base + 1e-4 * np.linalg.norm(base) / np.sqrt(d) * X
    elif kind == "integers":
        X = np.round(2 * X)
    return X.astype(dtype)


def assert_close(actual, expected, X, tolerance=1e-5):
    """Compare vectors, relative to the expected one's largest value; `X` has the scale if that is zero."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=0.0) or np.abs(np.asarray(X, dtype=np.float64)).max(initial=0.0) or 1.0
    assert np.abs(actual - expected).max(initial=0.0) <= tolerance * scale
