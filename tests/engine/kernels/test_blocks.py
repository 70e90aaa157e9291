from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.kernels import blocks
from tests.rules.references import mean_around_median

DTYPES = [np.float32, np.float64]


def draw(rows, columns, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 7, 1024, 2500])
def test_gram(dtype, columns):
    for rows in range(1, 14):
        block, gram = draw(rows, columns, dtype), np.zeros((rows, rows))
        blocks.add_gram(block, gram)
        blocks.add_gram(block, gram)
        wide = block.astype(np.float64)
        np.testing.assert_allclose(np.triu(gram), np.triu(2 * wide @ wide.T), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_norms(dtype):
    block, out = draw(4, 3001, dtype), np.arange(4.0)
    blocks.squared_norms(block, out)
    np.testing.assert_allclose(out, np.arange(4) + np.square(block, dtype=np.float64).sum(axis=1))
    block[0, 7], block[2, 3000], block[3, 0] = np.nan, np.inf, -np.inf
    blocks.squared_norms(block, out)
    assert np.isfinite(out).tolist() == [False, True, False, False]


@pytest.mark.parametrize("rows", [*range(1, 18), 31, 50])
def test_networks_sort(rows):
    X = draw(rows, 1100, np.float32).round(1)  # with ties; more columns than a network takes at a time
    expected = np.sort(X, axis=0)
    whole = X.copy()
    blocks.sort_rows(whole, blocks.sorting_network(rows, 0, rows))
    np.testing.assert_array_equal(whole, expected)
    for first, last in {(rows // 4, rows - rows // 4), ((rows - 1) // 2, rows // 2 + 1), (0, 1), (rows - 1, rows)}:
        pairs = blocks.sorting_network(rows, first, last)
        assert len(pairs) <= len(blocks.sorting_network(rows, 0, rows))
        part, out = X.copy(), np.empty(1100)
        blocks.sort_rows(part, pairs)
        np.testing.assert_array_equal(part[first:last], expected[first:last])
        blocks.mean_of_sorted(X.copy(), first, last, out)
        np.testing.assert_allclose(out, expected[first:last].mean(axis=0, dtype=np.float64), atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_around_median(dtype):
    for rows, keep in [(1, 1), (3, 2), (4, 1), (9, 5), (10, 4), (10, 9), (7, 7)]:
        X, out = draw(rows, 300, dtype).round(1), np.empty(300)  # with ties
        expected = mean_around_median(X, keep)
        blocks.mean_around_median(X.copy(), keep, out)
        np.testing.assert_allclose(out, expected, atol=1e-6)


def test_means_near_the_largest_float64_do_not_overflow():
    X, out = np.full((5, 3), 1.7e308), np.empty(3)
    for function, arguments in [(blocks.mean_of_sorted, (0, 5)), (blocks.mean_around_median, (3,))]:
        function(X.copy(), *arguments, out)
        np.testing.assert_allclose(out, 1.7e308)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weighted_sums(dtype):
    block, out = draw(9, 5000, dtype), np.ones(4000)
    rows, weights = np.array([8, 0, 3, 3, 5, 1]), np.array([0.5, -1.0, 2.0, 0.0, 1.0, 3.0])
    blocks.add_rows(block, rows, weights, 900, out)
    expected = 1 + weights @ block[rows, 900:4900].astype(np.float64)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    total = np.zeros(5000)
    assert blocks.add_weighted(block[2], -2.0, total) == pytest.approx(np.square(block[2], dtype=np.float64).sum())
    np.testing.assert_array_equal(total, -2.0 * block[2].astype(np.float64))
