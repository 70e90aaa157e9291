"""Moments by blocks of columns, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from clients.attacks.moments import BLOCK, column_blocks, column_deviations, column_means, inner_products
from tests.clients.attacks.data import DTYPES, draw, mean_of, std_of


@pytest.mark.parametrize("columns", [0, 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_blocks_cover_the_columns_in_order(columns):
    covered = [column for block in column_blocks(columns) for column in range(columns)[block]]
    assert covered == list(range(columns))


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_over_several_blocks(dtype):
    rows = draw(4, BLOCK + 5, dtype)
    means = column_means(rows)
    np.testing.assert_allclose(means, mean_of(rows), rtol=1e-9)
    for ddof in (0, 1):
        np.testing.assert_allclose(column_deviations(rows, ddof, means), std_of(rows, ddof), rtol=1e-6)
    assert not column_deviations(rows[:1], 1, means).any()
    direction = draw(1, BLOCK + 5, seed=1)[0]
    points = np.vstack([rows.astype(np.float64) - means, direction])
    np.testing.assert_allclose(inner_products(rows, means, direction), points @ points.T, rtol=1e-6, atol=1e-6)
