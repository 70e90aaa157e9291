"""What rows behind a mixing map give, on the CPU and on a device of torch's."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.passes import Needs, NonFiniteRowsError, measure
from flwr_robust.engine.rows import Geometry, Rows, UnmeasuredError, clip_factors, lowest, mix_rows
from flwr_robust.engine.updates import Updates
from tests.rules.chains import on
from tests.rules.data import assert_close, matrix
from tests.rules.references import distances

# ---------------------------------------------------------------- geometry


def draw(n, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def geometry_with(X, centre=None, **options):
    """The geometry of rows and origin, measured relative to a row where one is given."""
    points = np.vstack([X, np.zeros(X.shape[1])])
    points = points - (0 if centre is None else X[centre])
    return Geometry(points @ points.T, **options)


@pytest.mark.parametrize("centre", [None, 2])
def test_rows_that_are_mixed_and_scaled_are_known_without_the_data(centre):
    X = draw(7) + 3.0
    matrix = np.abs(draw(5, 7, seed=1))
    matrix /= matrix.sum(axis=1)[:, None]
    factors = np.array([0.5, 1.0, 0.0, 0.2, 1.0])
    rows = geometry_with(X, centre).mix(matrix).scale(factors).mix(np.eye(5)[[4, 0, 3]])
    Y = (factors[:, None] * (matrix @ X))[[4, 0, 3]]
    assert rows.count == 3
    np.testing.assert_allclose(rows.mixing @ X, Y)
    np.testing.assert_allclose(rows.norms, np.linalg.norm(Y, axis=1))
    np.testing.assert_allclose(np.sqrt(rows.squared_distances), distances(Y), atol=1e-12)
    np.testing.assert_allclose(rows.inner_from_origin, Y @ Y.T)
    # Inner products about some point: differences of rows have those of the rows.
    differences = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, -2.0]])
    np.testing.assert_allclose(differences @ rows.inner @ differences.T, (differences @ Y) @ (differences @ Y).T)
    np.testing.assert_array_equal(rows.squared_distances, rows.squared_distances.T)
    np.testing.assert_array_equal(rows.squared_distances.diagonal(), 0.0)
    np.testing.assert_allclose(geometry_with(X, centre).first(4).norms, np.linalg.norm(X[:4], axis=1))


def test_what_mixed_rows_share_does_not_blur_what_tells_them_apart():
    X = draw(6)
    X[5] *= 1e12
    matrix = np.full((5, 6), 0.1)
    matrix[np.arange(5), np.arange(5)] += 0.4
    found = np.sqrt(geometry_with(X).mix(matrix).squared_distances)
    np.testing.assert_allclose(found, distances(0.4 * X[:5]), rtol=1e-6)


def test_what_was_not_measured_cannot_be_read():
    X = draw(4)
    asked = ("norms", "inner", "inner_from_origin", "squared_distances")
    readable = {
        Needs.NOTHING: [],
        Needs.NORMS: ["norms"],
        Needs.DISTANCES: list(asked),
    }
    for measured, names in readable.items():
        rows = geometry_with(X, measured=measured)
        for made in (rows, rows.first(2), rows.scale(np.full(4, 0.5))):
            for name in asked:
                if name in names:
                    assert np.isfinite(getattr(made, name)).all()
                else:
                    with pytest.raises(UnmeasuredError, match="were not measured") as caught:
                        getattr(made, name)
                    assert caught.value.needs is (Needs.NORMS if name == "norms" else Needs.DISTANCES)
    # Norms of mixed rows follow from distances.
    with pytest.raises(UnmeasuredError):
        _ = geometry_with(X, measured=Needs.NORMS).mix(np.eye(4)).norms


def test_distances_of_another_norm_take_the_place_of_the_euclidean():
    X, other = draw(4), np.arange(16.0).reshape(4, 4)
    rows = geometry_with(X, unit=3.0)
    _ = rows.squared_distances
    made = rows.with_distances(other)
    assert made.squared_distances is other
    assert made.unit == 3.0
    np.testing.assert_array_equal(made.norms, rows.norms)
    np.testing.assert_allclose(np.sqrt(rows.squared_distances), distances(X))


def test_clipping_shortens_what_is_longer():
    assert clip_factors(np.array([0.0, 1.0, 2.0, 8.0]), 2.0).tolist() == [1.0, 1.0, 1.0, 0.25]
    assert clip_factors(np.array([0.0, 5.0]), 0.0).tolist() == [1.0, 0.0]


def test_of_tied_values_the_lower_indices_are_the_lowest():
    values = np.array([3.0, 1.0, 2.0, 1.0, 2.0, 2.0])
    # Those below the last value first, then its ties.
    expected = {1: [1], 2: [1, 3], 3: [1, 3, 2], 4: [1, 3, 2, 4], 5: [1, 3, 2, 4, 5], 6: [1, 2, 3, 4, 5, 0]}
    assert {count: lowest(values, count) for count in expected} == expected
    nearly = np.array([1.0 + 1e-15, 1.0, 1.0 + 1e-9])
    assert lowest(nearly, 1) == [0]
    assert lowest(nearly[::-1], 2) == [1, 2]
    assert lowest(-nearly, 1) == [2]


# ---------------------------------------------------------------- the data


X = matrix("normal", 7, 210, seed=6, dtype=np.float64)
BELOW = matrix("normal", 2, 210, seed=7, dtype=np.float64)
MIXING = np.random.default_rng(6).dirichlet(np.ones(7), size=4)


def rows_of(updates, mixing=None, below=(), **options):
    """The updates mixed, or as they are, with remembered vectors that were measured with them."""
    first = Geometry.of(measure(updates.stacked(below) if below else updates)).first(updates.n)
    mixed = bool(below) or mixing is not None
    points = updates.stacked(below) if below else updates
    geometry, vectors = first if mixing is None else first.mix(mixing), [f"vector {k}" for k in range(len(below))]
    return Rows(points, geometry, updates.n, vectors, mixed=mixed, threads=2, **options)


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
        assert [rows.place(name) for name in ("vector 0", "vector 1", "another")] == [len(Y), len(Y) + 1, None]
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


def add_up(block, start, found):
    found["total"] += block.sum(axis=1)
    found["dtypes"].add(block.dtype)


def nothing_yet(width):
    return {"total": 0.0, "dtypes": set()}


def merge(found, more):
    found["total"] += more["total"]
    found["dtypes"] |= more["dtypes"]


@pytest.mark.parametrize("columns", [None, (3, 97), (209, 210)])
def test_rows_are_scanned(columns, device):
    rows = rows_of(on(device, Updates.of_rows(X.astype(np.float32))), MIXING)
    first, last = columns or (0, 210)
    for dtype in (None, np.float64):
        found = rows.scan(add_up, nothing_yet, merge, dtype=dtype, columns=columns)
        np.testing.assert_allclose(found["total"], (MIXING @ X)[:, first:last].sum(axis=1), rtol=1e-4, atol=1e-5)
        assert found["dtypes"] == {np.dtype(dtype or np.float32)}
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
        lambda: rows().scan(add_up, nothing_yet, merge),
        lambda: rows().scan(add_up, nothing_yet, merge, columns=(90, 110)),
        lambda: rows().take(np.array([1, 100])),
    ):
        with pytest.raises(NonFiniteRowsError, match=r"rows \[2, 5\]"):
            use()
    assert np.isfinite(rows().take(np.array([1, 99]))).all()
    rows().scan(add_up, nothing_yet, merge, columns=(101, 110))


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
