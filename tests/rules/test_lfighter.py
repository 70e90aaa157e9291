from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix

LAYERS = [("hidden", (3, 4)), ("out.weight", (5, 8)), ("out.bias", 5)]


def clustered(seed, dtype=np.float32):
    X = np.random.default_rng(seed).standard_normal((10, 57)).astype(dtype)
    X[:, 12:28] += 2.0
    X[7:, 12:28] -= 6.0
    return X


@pytest.mark.parametrize("seed", range(4))
def test_the_output_layer_is_the_last_of_two_dimensions_or_the_one_named(seed):
    X = clustered(seed)
    expected = references.lfighter(X, 12, 5, 8)
    assert_close(rules.LFighter()(X, layers=LAYERS), expected, X)
    assert_close(rules.LFighter("out.weight")(X, layers=LAYERS), expected, X)
    assert_close(rules.LFighter("hidden")(X, layers=LAYERS), references.lfighter(X, 0, 3, 4), X)


def test_it_leaves_out_the_flippers():
    rng = np.random.default_rng(7)
    X = 0.1 * rng.standard_normal((10, 30)) + np.repeat([[1.0, -1.0, 0.0]], 10, axis=1).reshape(1, 30)
    X[8:, :20] *= -1.0
    assert_close(rules.LFighter()(X, layers=[("w", (3, 10))]), X[:8].mean(axis=0), X)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_rows_that_agree(n):
    row = np.arange(6.0)
    assert np.allclose(rules.LFighter()(np.tile(row, (n, 1)), layers=[("w", (2, 3))]), row)
    assert np.array_equal(rules.LFighter()(np.zeros((n, 6)), layers=[("w", (2, 3))]), np.zeros(6))
    assert np.isfinite(rules.LFighter()(np.eye(max(n, 2), 6), layers=[("w", (1, 6))])).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e160, 1e300])
def test_a_row_of_any_float64_size_is_clustered(scale):
    X = clustered(1, np.float64)
    X[7:] *= scale
    found = rules.LFighter()(X, layers=LAYERS)
    assert_close(found, X[:7].mean(axis=0) if scale > 1 else references.lfighter(X, 12, 5, 8), X)


def test_it_needs_a_layer_of_two_dimensions():
    with pytest.raises(ValueError, match=r"no 2-D layer .* the layers are conv \(2, 1, 1, 3\): name one"):
        rules.LFighter()(np.ones((3, 6)), layers=[("conv", (2, 1, 1, 3))])
    with pytest.raises(ValueError, match="no 2-D layer named 'fc'"):
        rules.LFighter("fc")(np.ones((3, 6)), layers=[("w", (2, 3))])
    with pytest.raises(ValueError, match="output_layer = 3; give the name of a layer"):
        rules.LFighter(3)


def test_bad_values_outside_the_output_layer_are_found():
    X = matrix("normal", 6, 20, seed=8)
    for place in (0, 19):
        Y = X.copy()
        Y[2, place] = np.nan
        with pytest.raises(rules.NonFiniteRowsError, match=r"rows \[2\] hold NaN"):
            rules.LFighter()(Y, layers=[("a", 8), ("w", (3, 4))])
