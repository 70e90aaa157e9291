"""Thresholds that a sample of the columns brackets, which small models do without unless a test asks for it."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules import lasa_thresholds
from flwr_robust.rules.run import run
from tests.rules import references
from tests.rules.data import KINDS, assert_close, matrix

SIZES = [300, 1, 64, 1000]
LAYERS = [(f"layer{i}", size) for i, size in enumerate(SIZES)]


@pytest.fixture
def bracketed(monkeypatch):
    monkeypatch.setattr(lasa_thresholds, "SAMPLE_FROM", 64)
    monkeypatch.setattr(lasa_thresholds, "SAMPLE_LEAST", 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.9])
def test_brackets_change_nothing(kind, sparsity, request):
    behind = rules.chain(rules.ARC(2), rules.NNM(2), rules.LASA(sparsity))
    rows = [matrix(kind, 8, sum(SIZES), seed=1, dtype=dtype) for dtype in (np.float32, np.float64)]
    in_full = [behind(X, layers=LAYERS) for X in rows]
    request.getfixturevalue("bracketed")
    for X, expected in zip(rows, in_full, strict=True):
        assert_close(rules.LASA(sparsity)(X, layers=LAYERS), references.lasa(X, SIZES, sparsity, 2.0, 1.0), X)
        # Not against the reference: mixed integers tie up to rounding, which is another one there.
        np.testing.assert_array_equal(behind(X, layers=LAYERS), expected)


@pytest.mark.usefixtures("bracketed")
def test_brackets_that_miss_or_overflow_are_made_up_for():
    # Sorted columns mislead an evenly spaced sample's neighbours; equal values would all be collected.
    rng = np.random.default_rng(3)
    X = np.stack([np.sort(rng.standard_normal(2000)), np.ones(2000), np.zeros(2000), rng.integers(-2, 3, 2000)])
    X = np.vstack([X, np.where(np.arange(2000) % 16 < 8, 1e-3, rng.standard_normal(2000))])
    found = run(rules.LASA(0.4), updates_for(X))
    assert_close(found.vector, references.lasa(X, [2000], 0.4, 2.0, 1.0), X)
    # What is missed is read in full, twice.
    assert found.passes == 4


@pytest.mark.usefixtures("bracketed")
@pytest.mark.parametrize("size", [1e160, 1e-200, 1e300])
def test_squares_stay_within_float64_where_the_sample_shows_nothing_of_the_largest(size):
    rng = np.random.default_rng(4)
    # The sample's first run of columns is 0 to 15, and it never sees the last column.
    X = np.where(np.arange(2000) < 1999, rng.standard_normal((5, 2000)), size * rng.standard_normal((5, 1)))
    if size < 1:
        X[:, :1999] = 0.0
    layers, sizes = [("a", 1000), ("b", 1000)], [1000, 1000]
    scaled = X / np.abs(X).max()
    found = rules.LASA(0.4)(X, layers=layers) / np.abs(X).max()
    assert_close(found, references.lasa(scaled, sizes, 0.4, 2.0, 1.0), scaled)
