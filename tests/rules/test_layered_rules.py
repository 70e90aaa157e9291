"""LASA and LFighter: rules that look at layers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references as ref
from tests.rules.data import KINDS, assert_close, matrix


def names(sizes):
    return [(f"layer{i}", size) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_lasa(kind, dtype):
    for n, sizes in [(3, [4]), (5, [1, 1, 7]), (8, [30, 1, 64, 5]), (12, [3] * 20)]:
        X = matrix(kind, n, sum(sizes), seed=1, dtype=dtype)
        for sparsity, magnitude, direction in [(0.3, 2.0, 1.0), (0.0, 1.0, 1.5), (0.9, 0.5, 3.0), (0.5, 1e-6, 1e-6)]:
            rule = rules.LASA(sparsity, magnitude, direction)
            expected = ref.lasa(X, sizes, sparsity, magnitude, direction)
            assert_close(rule(X, layers=names(sizes)), expected, X)


def test_lasa_behind_other_stages():
    sizes = [10, 1, 40]
    X = matrix("normal", 9, 51, seed=2)
    mixed = ref.nnm(ref.arc(X, 2), 2)
    found = rules.chain(rules.ARC(2), rules.NNM(2), rules.LASA())(X, layers=names(sizes))
    assert_close(found, ref.lasa(mixed, sizes, 0.3, 2.0, 1.0), X)


def test_lasa_with_a_thousand_layers():
    X = matrix("normal", 6, 2500, seed=3)
    sizes = [1, 4] * 500
    assert_close(rules.LASA()(X, layers=names(sizes)), ref.lasa(X, sizes, 0.3, 2.0, 1.0), X)


def test_lasa_keeps_the_first_of_equal_values():
    X = np.tile([1.0, -1.0, 1.0, 1.0], (3, 1))
    assert np.array_equal(rules.LASA(sparsity=0.5)(X), [1.0, -1.0, 0.0, 0.0])


def test_lasa_drops_what_stands_out_in_one_layer_only():
    rng = np.random.default_rng(4)
    X = np.abs(rng.standard_normal((8, 40))) + 1.0
    X[7, :20] *= 50.0
    # One of eight that is far out scores 8 / sqrt(7) = 3.02; none of eight others can score more than that.
    found = rules.LASA(sparsity=0.0, magnitude_radius=2.9, direction_radius=2.0)(X, layers=names([20, 20]))
    assert np.allclose(found[:20], X[:7, :20].mean(axis=0))
    assert np.allclose(found[20:], X[:, 20:].mean(axis=0))


def test_lasa_needs_little_memory():
    X = matrix("normal", 30, 400_000, seed=5)
    layers = names([100_000, 50, 299_950])
    rules.LASA()(X, layers=layers)  # compiles what is not in the cache yet
    tracemalloc.start()
    rules.LASA()(X, layers=layers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 0.1 * X.nbytes + X[0].nbytes


def lfighter(X, start, classes, features):
    """LPA 5.1 and the notes on its code, on the rows themselves."""
    from sklearn.cluster import KMeans

    X = np.asarray(X, dtype=np.float64)
    weight = X[:, start : start + classes * features].reshape(len(X), classes, features)
    change = np.linalg.norm(weight, axis=2).sum(axis=0)
    two = np.argsort(-change, kind="stable")[:2]
    points = weight[:, two].reshape(len(X), -1)
    labels = KMeans(2, random_state=0, n_init=10).fit(points).labels_
    scores = {}
    for label in (0, 1):
        members = points[labels == label]
        unit = members / np.linalg.norm(members, axis=1)[:, None]
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, 0.0)
        scores[label] = len(members) / len(X) * (1 - similarity.min(axis=1).mean())
    return X[labels == max(scores, key=scores.get)].mean(axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_lfighter(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((10, 12 + 5 * 8 + 5)).astype(np.float32)
    X[:, 12 : 12 + 16] += 2.0
    X[7:, 12 : 12 + 16] -= 6.0
    layers = [("hidden", (3, 4)), ("out.weight", (5, 8)), ("out.bias", 5)]
    expected = lfighter(X, 12, 5, 8)
    assert_close(rules.LFighter()(X, layers=layers), expected, X)
    assert_close(rules.LFighter("out.weight")(X, layers=layers), expected, X)
    assert_close(rules.LFighter("hidden")(X, layers=layers), lfighter(X, 0, 3, 4), X)


def test_lfighter_leaves_out_the_flippers():
    rng = np.random.default_rng(7)
    X = 0.1 * rng.standard_normal((10, 30)) + np.repeat([[1.0, -1.0, 0.0]], 10, axis=1).reshape(1, 30)
    X[8:, :20] *= -1.0
    assert_close(rules.LFighter()(X, layers=[("w", (3, 10))]), X[:8].mean(axis=0), X)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_lfighter_on_rows_that_agree(n):
    row = np.arange(6.0)
    assert np.allclose(rules.LFighter()(np.tile(row, (n, 1)), layers=[("w", (2, 3))]), row)
    assert np.array_equal(rules.LFighter()(np.zeros((n, 6)), layers=[("w", (2, 3))]), np.zeros(6))
    assert np.isfinite(rules.LFighter()(np.eye(max(n, 2), 6), layers=[("w", (1, 6))])).all()


def test_lfighter_needs_a_layer_of_two_dimensions():
    with pytest.raises(ValueError, match=r"no 2-D layer .* the layers are conv \(2, 1, 1, 3\): name one"):
        rules.LFighter()(np.ones((3, 6)), layers=[("conv", (2, 1, 1, 3))])
    with pytest.raises(ValueError, match="no 2-D layer named 'fc'"):
        rules.LFighter("fc")(np.ones((3, 6)), layers=[("w", (2, 3))])


@pytest.mark.parametrize("make", [rules.LFighter, rules.LASA])
def test_rows_that_are_not_finite_are_named(make):
    X = matrix("normal", 6, 20, seed=8)
    for place in (0, 19):
        Y = X.copy()
        Y[2, place] = np.nan
        with pytest.raises(ValueError, match=r"rows \[2\] hold NaN"):
            make()(Y, layers=[("a", 8), ("w", (3, 4))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.LASA(sparsity=1.0), r"sparsity = 1.0; give a number in \[0, 1\)"),
        (lambda: rules.LASA(direction_radius=0), "direction_radius = 0; give a finite number above 0"),
        (lambda: rules.LASA()(np.ones((2, 3))), "needs n >= 3"),
        (lambda: rules.LFighter(3), "output_layer = 3; give the name of a layer"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
