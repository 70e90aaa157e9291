"""Compiled loops and what calls them, against plain NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.cpu import Mixer
from flwr_robust.engine.kernels import blocks as kernels
from flwr_robust.engine.updates import Part
from flwr_robust.rules import lasa_thresholds
from tests.rules import references as ref
from tests.rules.data import KINDS, assert_close, matrix

DTYPES = [np.float32, np.float64]


def draw(rows, columns, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", range(1, 14))
@pytest.mark.parametrize("columns", [1, 7, 1024, 2500])
def test_gram(dtype, rows, columns):
    block, gram = draw(rows, columns, dtype), np.zeros((rows, rows))
    kernels.add_gram(block, gram)
    kernels.add_gram(block, gram)
    wide = block.astype(np.float64)
    np.testing.assert_allclose(np.triu(gram), np.triu(2 * wide @ wide.T), rtol=1e-12, atol=1e-10)


def mixings(n, f):
    rng = np.random.default_rng(n)
    nearest = np.zeros((n, n))
    for i in range(n):
        nearest[i, rng.permutation(n)[: n - f]] = 1 / (n - f)
    factors = rng.uniform(0, 1, n)
    return {
        "neighbours": nearest,
        "clipped neighbours": nearest * factors,
        "clipping": np.diag(factors),
        "selection": np.eye(n)[f:],
        "buckets": np.kron(np.eye(n // 2), [0.5, 0.5]) if n % 2 == 0 else np.eye(n),
        "anything": rng.standard_normal((n + 2, n)),
        "one row": rng.standard_normal((1, n)),
        "nothing": np.zeros((3, n)),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", mixings(4, 1))
@pytest.mark.parametrize(("n", "f", "columns"), [(4, 1, 3), (11, 3, 1500), (30, 6, 1024)])
def test_mixing(dtype, name, n, f, columns):
    mixing, block = mixings(n, f)[name], draw(n, columns, dtype)
    out = np.full((len(mixing), columns), np.nan, dtype)
    Mixer(mixing)(block, out)
    expected = mixing @ block.astype(np.float64)
    np.testing.assert_allclose(out, expected, rtol=1e-6 if dtype == np.float32 else 1e-12, atol=1e-12 * n)


def test_what_rows_agree_on_is_added_up_once():
    assert Mixer(mixings(30, 2)["neighbours"]).sparse
    assert Mixer(mixings(30, 2)["clipping"]).sparse
    assert not Mixer(mixings(30, 2)["anything"]).sparse


def test_one_huge_row_does_not_blur_the_others():
    """A row that few neighbourhoods hold is not first added to all and then taken off again."""
    block = draw(12, 50)
    block[0] *= 1e18
    mixing = np.full((12, 12), 1 / 11) * (1 - np.eye(12)[0])
    mixing[0] = np.eye(12)[0]
    out = np.empty_like(block)
    Mixer(mixing)(block, out)
    np.testing.assert_allclose(out[1:], (mixing @ block)[1:], rtol=1e-12)


LAYOUTS = {
    "plain": lambda row, dtype: row.astype(dtype),
    "half": lambda row, dtype: row.astype(np.float16),
    "every other": lambda row, dtype: np.repeat(row.astype(dtype), 2)[::2],
    "read-only": lambda row, dtype: np.frombuffer(row.astype(dtype).tobytes(), dtype),
    "swapped": lambda row, dtype: row.astype(np.dtype(dtype).newbyteorder()),
    "unaligned": lambda row, dtype: np.frombuffer(b"x" + row.astype(dtype).tobytes(), dtype, offset=1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_sent", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_read_and_weigh_rows_of_any_layout(dtype, with_sent, layout):
    arrays = [LAYOUTS[layout](row, dtype) for row in draw(5, 3000)]
    sent = LAYOUTS[layout](draw(1, 3000, seed=9)[0], dtype) if with_sent else None
    part = Part(0, arrays, [sent] * len(arrays), np.dtype(dtype))
    assert part.plain == (layout in ("plain", "read-only"))
    rows = np.array([np.asarray(a, dtype) - (np.asarray(sent, dtype) if with_sent else dtype(0)) for a in arrays])
    out = np.full((5, 2600), np.nan, dtype)
    part.read(300, 2800, None, out, 40)
    np.testing.assert_array_equal(out[:, 40:2540], rows[:, 300:2800])
    assert np.isnan(out[:, :40]).all()
    assert np.isnan(out[:, 2540:]).all()
    part.read(7, 9, [3, 1], out[:2], 0)
    np.testing.assert_array_equal(out[:2, :2], rows[[3, 1], 7:9])
    weights = np.array([0.5, 0.0, -1.0, 2.0, 0.0])
    total, squares = np.ones(2500), np.ones(5)
    part.accumulate(300, 2800, weights, total, squares)
    wide = rows[:, 300:2800].astype(np.float64)
    np.testing.assert_allclose(total, 1 + weights @ wide, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(squares, 1 + np.square(wide).sum(axis=1), rtol=1e-9)
    columns = np.array([0, 5, 2999])
    np.testing.assert_array_equal(part.take(columns), rows[:, columns])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "keep"), [(3, 2), (4, 1), (9, 5), (10, 4), (10, 9), (7, 7)])
def test_mean_near_median(dtype, rows, keep):
    X = draw(rows, 300, dtype).round(1)  # with ties
    out = np.empty(300)
    kernels.mean_near_median(np.sort(X, axis=0), keep, out)
    for column, found in zip(X.astype(np.float64).T, out, strict=True):
        median = np.median(column)
        nearest = sorted(column, key=lambda value: (abs(value - median), value))[:keep]
        assert abs(found - np.mean(nearest)) < 1e-6


@pytest.fixture
def bracketed(monkeypatch):
    """Let LASA find edges by brackets in small models too."""
    monkeypatch.setattr(lasa_thresholds, "SAMPLE_FROM", 64)
    monkeypatch.setattr(lasa_thresholds, "SAMPLE_LEAST", 32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.9])
def test_lasa_by_brackets(kind, dtype, sparsity, request):
    sizes = [300, 1, 64, 1000]
    X = matrix(kind, 8, sum(sizes), seed=1, dtype=dtype)
    layers = [(f"layer{i}", size) for i, size in enumerate(sizes)]
    alone, behind = rules.LASA(sparsity), rules.chain(rules.ARC(2), rules.NNM(2), rules.LASA(sparsity))
    in_full = behind(X, layers=layers)
    request.getfixturevalue("bracketed")
    assert_close(alone(X, layers=layers), ref.lasa(X, sizes, sparsity, 2.0, 1.0), X)
    # Not against the reference: mixed integers tie up to rounding, which is another one there.
    np.testing.assert_array_equal(behind(X, layers=layers), in_full)


@pytest.mark.usefixtures("bracketed")
def test_brackets_that_miss_or_overflow_are_made_up_for():
    # Sorted columns mislead an evenly spaced sample's neighbours; equal values would all be collected.
    rng = np.random.default_rng(3)
    X = np.stack([np.sort(rng.standard_normal(2000)), np.ones(2000), np.zeros(2000), rng.integers(-2, 3, 2000)])
    X = np.vstack([X, np.where(np.arange(2000) % 16 < 8, 1e-3, rng.standard_normal(2000))])
    expected = ref.lasa(X, [2000], 0.4, 2.0, 1.0)
    assert_close(rules.LASA(0.4)(X, layers=[("w", 2000)]), expected, X)


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
    assert_close(rules.LASA(0.4)(X, layers=layers) / np.abs(X).max(), ref.lasa(scaled, sizes, 0.4, 2.0, 1.0), scaled)
