from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.kernels import signs
from flwr_robust.engine.updates import address_of

DTYPES = [np.float32, np.float64]


def draw(rows, columns, dtype):
    """Values with ties and zeros."""
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(dtype).round(1)


def sparse(row, lower, upper, last_kept, start=0):
    """What `sparsify` is to leave of a row whose first column is `start` of all."""
    sizes, columns = np.abs(row.astype(np.float64)), np.arange(row.size) + start
    return np.where((sizes > upper) | ((sizes >= lower) & (columns <= last_kept)), row, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_of_signs(dtype):
    block, counts = draw(4, 301, dtype), np.ones((4, 3), dtype=np.int64)
    signs.count_signs(block, counts)
    expected = [[(row > 0).sum() + 1, (row == 0).sum() + 1, (row < 0).sum() + 1] for row in block]
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_lies_below_a_threshold_becomes_zero(dtype):
    block = draw(3, 200, dtype)
    # A tie is kept to its last column; a threshold of some width; one above all values.
    lower, upper, last = np.array([0.5, 0.4, 99.0]), np.array([0.5, 0.8, 99.0]), np.array([1060, 1100, 5000])
    lower, upper = lower.astype(dtype).astype(np.float64), upper.astype(dtype).astype(np.float64)
    expected = np.array([sparse(*row, start=1000) for row in zip(block, lower, upper, last, strict=True)])
    assert (np.abs(block[0]) == lower[0])[60:].any()
    total = np.zeros(150)
    bounds = lower.astype(dtype), upper.astype(dtype)
    signs.add_sparsified(block, 1000, np.array([0, 2, 1]), 30, bounds, last, total)
    np.testing.assert_allclose(total, expected[:, 30:180].sum(axis=0, dtype=np.float64))
    signs.sparsify(block, 1000, lower, upper, last)
    np.testing.assert_array_equal(block, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_a_layer(dtype):
    block = draw(3, 90, dtype)
    squares, found = np.ones((3, 2)), np.ones((3, 2, 2), dtype=np.int64)
    signs.layer_statistics(block, (10, 75), 1, 0.5, squares, found)
    part = block[:, 10:75].astype(np.float64)
    np.testing.assert_allclose(squares, np.column_stack([np.ones(3), 1 + np.square(part / 2).sum(axis=1)]))
    np.testing.assert_array_equal(found[:, 1], 1 + np.column_stack([(part > 0).sum(axis=1), (part < 0).sum(axis=1)]))
    np.testing.assert_array_equal(found[:, 0], 1)


FIRST, LAST, START = 3, 96, 500  # columns of a layer in a block, which begins with this column of all


class Summarized:
    """What `summarize` makes of a layer of a block by four rows' brackets."""

    def __init__(self, dtype):
        self.block = draw(4, 100, dtype)
        self.part = self.block[:, FIRST:LAST].astype(np.float64)
        self.sizes = np.abs(self.part)
        self.low, self.high = np.array([0.5, 0.0, 2.0, 1.0], dtype), np.array([0.9, 5.0, 1.0, 1.0], dtype)
        self.room = np.array([93, 40, 93, 93])  # of the second row all values lie within: too many
        self.squares, self.counts = np.zeros((4, 1)), np.zeros((4, 1, 2), dtype=np.int64)
        self.ends = np.empty(5, dtype=np.int64)
        self.values, self.places = np.empty(400, dtype), np.empty(400, np.uint16)
        collected = (self.room, np.zeros(104, np.uint8), self.values, self.places, self.ends)
        bracket = (self.low, self.high)
        signs.summarize(self.block, (FIRST, LAST), 0, bracket, 1.0, self.squares, self.counts, *collected)

    def assert_counted(self, row, values):
        assert self.squares[row, 0] == pytest.approx(np.square(values).sum())
        assert self.counts[row, 0].tolist() == [(values > 0).sum(), (values < 0).sum()]


@pytest.mark.parametrize("dtype", DTYPES)
def test_brackets_split_a_layer_in_what_lies_beyond_and_what_is_collected(dtype):
    found = Summarized(dtype)
    assert (found.room < 0).tolist() == [False, True, False, False]
    for i, sizes in enumerate(found.sizes):
        found.assert_counted(i, found.part[i][sizes > found.high[i]])
        within = np.flatnonzero((sizes >= found.low[i]) & (sizes <= found.high[i]))
        within = within[:0] if i == 1 else within
        mine = slice(found.ends[i], found.ends[i + 1])
        np.testing.assert_array_equal(found.places[mine], within + FIRST)
        np.testing.assert_array_equal(found.values[mine], found.part[i][within].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_collected_of_a_row_is_put_together(dtype):
    found = Summarized(dtype)
    addresses = np.array([[address_of(found.values), address_of(found.places)]] * 2, dtype=np.uint64)
    ends, count = found.ends, found.ends[1]
    sizes, columns = np.empty(2 * count, dtype), np.empty(2 * count, dtype=np.int64)
    starts = np.array([START, 900])
    signs.gather_row(0, addresses, np.stack([ends, ends]), starts, sizes, found.places, columns)
    np.testing.assert_array_equal(sizes, np.tile(np.abs(found.values[:count]), 2))
    places = found.places[:count].astype(np.int64)
    np.testing.assert_array_equal(columns, np.concatenate([START + places, 900 + places]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_kept_of_the_collected_joins_the_statistics(dtype):
    found = Summarized(dtype)
    bounds, last_kept = (np.full(4, 0.7), np.full(4, 0.7)), np.full(4, START + 50)
    collected = (found.values, found.places, found.ends)
    signs.add_kept(*collected, START, 0, bounds, last_kept, 1.0, found.squares, found.counts)
    kept = sparse(found.block[0, FIRST:LAST], 0.7, 0.7, START + 50, start=START + FIRST)
    found.assert_counted(0, kept[found.sizes[0] >= found.low[0]].astype(np.float64))
