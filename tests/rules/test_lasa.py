from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import KINDS, assert_close, matrix


def names(sizes):
    return [(f"layer{i}", size) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("kind", KINDS)
def test_options_and_layers(kind):
    for n, sizes, dtype in [(3, [4], "f4"), (5, [1, 1, 7], "f8"), (8, [30, 1, 64, 5], "f4"), (12, [3] * 20, "f8")]:
        X = matrix(kind, n, sum(sizes), seed=1, dtype=dtype)
        for options in [(0.3, 2.0, 1.0), (0.0, 1.0, 1.5), (0.9, 0.5, 3.0), (0.5, 1e-6, 1e-6)]:
            found = rules.LASA(*options)(X, layers=names(sizes))
            assert_close(found, references.lasa(X, sizes, *options), X)


def test_a_thousand_layers():
    X = matrix("normal", 6, 2500, seed=3)
    sizes = [1, 4] * 500
    assert_close(rules.LASA()(X, layers=names(sizes)), references.lasa(X, sizes, 0.3, 2.0, 1.0), X)


def test_of_equal_values_the_first_are_kept():
    X = np.tile([1.0, -1.0, 1.0, 1.0], (3, 1))
    assert np.array_equal(rules.LASA(sparsity=0.5)(X), [1.0, -1.0, 0.0, 0.0])


def test_what_stands_out_in_one_layer_is_left_out_there_only():
    rng = np.random.default_rng(4)
    X = np.abs(rng.standard_normal((8, 40))) + 1.0
    X[7, :20] *= 50.0
    # One of eight that is far out scores 8 / sqrt(7) = 3.02; none of eight others can score more than that.
    found = rules.LASA(sparsity=0.0, magnitude_radius=2.9, direction_radius=2.0)(X, layers=names([20, 20]))
    assert np.allclose(found[:20], X[:7, :20].mean(axis=0))
    assert np.allclose(found[20:], X[:, 20:].mean(axis=0))


def test_it_needs_little_memory():
    X = matrix("normal", 30, 200_000, seed=5)
    layers = names([50_000, 50, 149_950])
    rules.LASA()(X, layers=layers)  # compiles what is not in the cache yet
    tracemalloc.start()
    rules.LASA()(X, layers=layers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 0.1 * X.nbytes + X[0].nbytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity = 1.0; give a number in \[0, 1\)"),
        ({"magnitude_radius": -1}, "magnitude_radius = -1; give a finite number above 0"),
        ({"direction_radius": 0}, "direction_radius = 0; give a finite number above 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        rules.LASA(**options)
