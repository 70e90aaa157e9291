from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.geometry import Geometry, Needs, UnmeasuredError, central_row, clip_factors, lowest
from tests.rules.references import distances


def draw(n, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def geometry_of(X, centre=None, **options):
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
    rows = geometry_of(X, centre).mix(matrix).scale(factors).mix(np.eye(5)[[4, 0, 3]])
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
    np.testing.assert_allclose(geometry_of(X, centre).first(4).norms, np.linalg.norm(X[:4], axis=1))


def test_what_mixed_rows_share_does_not_blur_what_tells_them_apart():
    X = draw(6)
    X[5] *= 1e12
    matrix = np.full((5, 6), 0.1)
    matrix[np.arange(5), np.arange(5)] += 0.4
    found = np.sqrt(geometry_of(X).mix(matrix).squared_distances)
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
        rows = geometry_of(X, measured=measured)
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
        _ = geometry_of(X, measured=Needs.NORMS).mix(np.eye(4)).norms


def test_distances_of_another_norm_take_the_place_of_the_euclidean():
    X, other = draw(4), np.arange(16.0).reshape(4, 4)
    rows = geometry_of(X, unit=3.0)
    _ = rows.squared_distances
    made = rows.with_distances(other)
    assert made.squared_distances is other
    assert made.unit == 3.0
    np.testing.assert_array_equal(made.norms, rows.norms)
    np.testing.assert_allclose(np.sqrt(rows.squared_distances), distances(X))


def test_the_central_row_is_among_the_majority():
    X = draw(9) * 1e-3 + 5.0
    X[:4] = 1e6 * draw(4, seed=2)
    row, closeness = central_row(X @ X.T)
    assert row >= 4
    assert closeness == pytest.approx(np.sort(distances(X)[row])[4] ** 2 / (X[row] @ X[row]), rel=1e-3)
    assert central_row(np.zeros((3, 3))) == (0, 1.0)


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
