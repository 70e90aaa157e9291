"""What the passes measure, and what rows behind a mixing map give, on the CPU and on a device of torch's."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.geometry import Geometry, Needs
from flwr_robust.engine.passes import BadRowsError, BlockReader, NonFiniteRowsError, Rows, measure, mix_rows, norms_of
from flwr_robust.engine.updates import Updates
from tests.rules.chains import on
from tests.rules.data import KINDS, assert_close, matrix
from tests.rules.references import distances, lp_norm


@pytest.fixture(params=[None, "cpu"], ids=["compiled", "torch"])
def device(request):
    if request.param is not None:
        pytest.importorskip("torch")
    return request.param


# ---------------------------------------------------------------- measuring


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_distances(kind, dtype, device):
    X = matrix(kind, 9, 300, seed=3, dtype=dtype)
    geometry, passes = measure(on(device, Updates.of_rows(X)), threads=2)
    norms = np.linalg.norm(X.astype(np.float64), axis=1)
    assert passes == (2 if kind == "near" else 1)
    np.testing.assert_allclose(geometry.norms * geometry.unit, norms, rtol=1e-9)
    # Each to its own digits, but for rows that agree: one that is huge does not blur the others.
    found, expected = np.sqrt(geometry.squared_distances) * geometry.unit, distances(X)
    assert (np.abs(found - expected) <= 1e-7 * np.where(expected > 0, expected, norms)).all()
    alone, passes = measure(on(device, Updates.of_rows(X)), Needs.NORMS)
    assert (passes, alone.measured) == (1, Needs.NORMS)
    np.testing.assert_allclose(alone.norms * alone.unit, norms, rtol=1e-12)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_distances_of_rows_that_nearly_agree(spread, device):
    base = np.random.default_rng(0).standard_normal(400)
    X = base + spread * np.random.default_rng(1).standard_normal((9, 400))
    X[0] *= -1e6  # a hostile one does not hide that the others agree
    geometry, _ = measure(on(device, Updates.of_rows(X)))
    found = np.sqrt(geometry.squared_distances)[1:, 1:]
    np.testing.assert_allclose(found, distances(X[1:]), rtol=1e-8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e160, 1e305])
def test_float64_values_of_any_size_have_norms_and_distances(scale, device):
    X = scale * matrix("normal", 5, 80, seed=1, dtype=np.float64)
    X[2] = 0.0
    norms = [lp_norm(x, 2) for x in X]
    updates = on(device, Updates.of_rows(X))
    for needs in (Needs.DISTANCES, Needs.NORMS):
        geometry, passes = measure(updates, needs)
        assert passes == 3
        np.testing.assert_allclose(geometry.norms * geometry.unit, norms, rtol=1e-12)
    np.testing.assert_allclose(norms_of(updates, np.full(5, np.inf if scale > 1 else 0.0)), norms, rtol=1e-12)


def test_where_nothing_is_needed_nothing_is_read():
    geometry, passes = measure(Updates.of_rows(np.full((3, 4), np.nan)), Needs.NOTHING)
    assert (geometry.count, geometry.measured, passes) == (3, Needs.NOTHING, 0)


def test_zero_rows_and_columns(device):
    for X in (np.zeros((4, 70)), np.zeros((4, 0)), np.zeros((1, 5), np.float32)):
        geometry, _ = measure(on(device, Updates.of_rows(X)))
        assert np.array_equal(geometry.norms, np.zeros(len(X)))
        assert np.array_equal(geometry.squared_distances, np.zeros((len(X), len(X))))


@pytest.mark.parametrize("needs", [Needs.NORMS, Needs.DISTANCES])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_not_finite_are_named(needs, dtype, device):
    X = matrix("normal", 6, 200, seed=2, dtype=dtype)
    X[1, 7], X[4, 199], X[5, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(NonFiniteRowsError, match=r"rows \[1, 4, 5\] hold NaN or infinity; leave such rows") as caught:
        measure(on(device, Updates.of_rows(X)), needs)
    assert (caught.value.rows, caught.value.fault) == ([1, 4, 5], "the arrays hold NaN or infinity")
    assert isinstance(caught.value, BadRowsError)


# ---------------------------------------------------------------- rows


X = matrix("normal", 7, 210, seed=6, dtype=np.float64)
BELOW = matrix("normal", 2, 210, seed=7, dtype=np.float64)
MIXING = np.random.default_rng(6).dirichlet(np.ones(7), size=4)


def rows_of(updates, mixing=None, below=(), **options):
    """The updates mixed, or as they are, with remembered vectors that were measured with them."""
    geometry, _ = measure(updates.stacked(below) if below else updates)
    first = geometry.first(updates.n)
    mixed = bool(below) or mixing is not None
    points = updates.stacked(below) if below else updates
    return Rows(points, first if mixing is None else first.mix(mixing), updates.n, mixed=mixed, threads=2, **options)


def test_rows_are_combined(device):
    for mixing, Y in ((None, X), (MIXING, MIXING @ X)):
        rows, weights = rows_of(on(device, Updates.of_rows(X)), mixing), np.linspace(-1, 2, len(Y))
        assert (rows.count, rows.d, rows.dtype, rows.norms, rows.passes) == (len(Y), 210, np.float64, None, 0)
        assert_close(rows.combine(weights), weights @ Y, X, 1e-12)
        np.testing.assert_allclose(rows.weights, weights if mixing is None else weights @ mixing)
        np.testing.assert_allclose(rows.norms, np.linalg.norm(X, axis=1))
        assert rows.passes == 1
        np.testing.assert_allclose(rows.row(2), Y[2], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(rows.take(np.array([0, 64, 209])), Y[:, [0, 64, 209]], atol=1e-12)
        assert rows.passes == 1


def test_remembered_vectors_take_part(device):
    for mixing, Y in ((None, X), (MIXING, MIXING @ X)):
        rows = rows_of(on(device, Updates.of_rows(X)), mixing, list(BELOW))
        both = np.vstack([Y, BELOW])
        np.testing.assert_allclose(np.sqrt(rows.with_remembered().squared_distances), distances(both), atol=1e-9)
        weights = np.linspace(-1, 2, len(both))
        assert_close(rows.combine(weights), weights @ both, X, 1e-12)
        np.testing.assert_allclose(rows.weights, weights[: len(Y)] @ (np.eye(7) if mixing is None else mixing))
        assert_close(rows.combine(np.ones(len(Y))), Y.sum(axis=0), X, 1e-12)
        assert len(rows.norms) == 7
        np.testing.assert_allclose(rows.take(np.array([5])), Y[:, [5]], atol=1e-12)


def test_columns_are_reduced(device):
    def largest(block, out):
        out[:] = np.asarray(block.max(axis=0) if isinstance(block, np.ndarray) else block.amax(dim=0))

    select = np.eye(4)[[3, 1]]
    for mixing, Y in ((None, X), (MIXING, MIXING @ X)):
        for tensors in (False, True):
            rows = rows_of(on(device, Updates.of_rows(X)), mixing)
            np.testing.assert_allclose(rows.reduce(largest, tensors=tensors), Y.max(axis=0), rtol=1e-12)
            assert (rows.passes, rows.weights, rows.used) == (1, None, None)
            np.testing.assert_allclose(rows.norms, np.linalg.norm(X, axis=1))
    chosen = rows.reduce(largest, select, tensors=True)
    np.testing.assert_allclose(chosen, Y[[1, 3]].max(axis=0), rtol=1e-12)
    assert rows.used.tolist() == [1.0] * 7  # each is a part of the mixed rows that were selected


def test_a_function_that_knows_no_tensors_gets_arrays(device):
    rows = rows_of(on(device, Updates.of_rows(X.astype(np.float32))))

    def first(block, out):
        assert isinstance(block, np.ndarray)
        out[:] = block[0]
        block[:] = np.nan  # which it may overwrite

    np.testing.assert_array_equal(rows.reduce(first), X[0].astype(np.float32))


class Sums(BlockReader):
    def __init__(self, updates, width, **options):
        super().__init__(updates, width, **options)
        self.total, self.dtypes = 0.0, set()

    def use(self, start, stop, block):
        self.total, self.dtypes = self.total + block.sum(axis=1), self.dtypes | {block.dtype}


@pytest.mark.parametrize("columns", [None, (3, 97), (209, 210)])
def test_rows_are_scanned(columns, device):
    rows = rows_of(on(device, Updates.of_rows(X.astype(np.float32))), MIXING)
    first, last = columns or (0, 210)
    for dtype in (None, np.float64):
        readers = rows.scan(Sums, dtype=dtype, columns=columns)
        np.testing.assert_allclose(
            sum(r.total for r in readers), (MIXING @ X)[:, first:last].sum(axis=1), rtol=1e-4, atol=1e-5
        )
        assert set.union(*(reader.dtypes for reader in readers)) == {np.dtype(dtype or np.float32)}
    assert rows.passes == (0 if columns else 2)
    assert (rows.norms is None) == bool(columns)


def test_the_first_pass_finds_rows_that_are_not_finite(device):
    bad = X.copy()
    bad[[2, 5], 100] = np.nan
    updates = on(device, Updates.of_rows(bad))

    def rows():
        return Rows(updates, Geometry(np.eye(8)), 7, mixed=False)

    for use in (
        lambda: rows().combine(np.ones(7)),
        lambda: rows().combine(np.eye(7)[0]),
        lambda: rows().reduce(lambda block, out: None),
        lambda: rows().scan(Sums),
        lambda: rows().scan(Sums, columns=(90, 110)),
        lambda: rows().take(np.array([1, 100])),
    ):
        with pytest.raises(NonFiniteRowsError, match=r"rows \[2, 5\]"):
            use()
    assert np.isfinite(rows().take(np.array([1, 99]))).all()
    rows().scan(Sums, columns=(101, 110))


def test_rows_count_in_the_layers_where_a_mixed_one_of_them_is_kept():
    layers = [("a", 70), ("b", 140)]
    mixing = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    rows = rows_of(Updates.of_rows(X[:3], layers), mixing)
    rows.count_in(np.array([[True, False], [True, True]]))
    assert rows.used.tolist() == [0.5, 0.5, 1.0]


def test_what_a_rule_will_remember_is_noted():
    rows = rows_of(Updates.of_rows(X), remembered={"centre": BELOW})
    assert rows.remembered["centre"] is BELOW
    rows.remember(centre=X)
    assert (rows.remembered["centre"] is BELOW, rows.noted["centre"] is X) == (True, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mixed_rows(dtype, device):
    found = mix_rows(on(device, Updates.of_rows(X.astype(dtype))), MIXING, threads=2)
    assert found.dtype == dtype
    assert_close(found, MIXING @ X, X, 1e-6 if dtype == np.float32 else 1e-12)


def test_by_default_the_cpu_works():
    assert Updates.of_rows(X).device is Updates.of_rows(X).home is CPU
