"""What is measured of rows, on the CPU and on a device of torch's."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.passes import BadRowsError, Needs, NonFiniteRowsError, central_row, measure, norms_of
from flwr_robust.engine.rows import Geometry
from flwr_robust.engine.updates import Updates
from tests.rules.chains import on
from tests.rules.data import KINDS, matrix
from tests.rules.references import distances, lp_norm


def geometry_of(*arguments, **options):
    """The geometry of what was measured, and the passes that took."""
    measured = measure(*arguments, **options)
    return Geometry.of(measured), measured.passes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_distances(kind, dtype, device):
    X = matrix(kind, 9, 300, seed=3, dtype=dtype)
    geometry, passes = geometry_of(on(device, Updates.of_rows(X)), threads=2)
    norms = np.linalg.norm(X.astype(np.float64), axis=1)
    assert passes == (2 if kind == "near" else 1)
    np.testing.assert_allclose(geometry.norms * geometry.unit, norms, rtol=1e-9)
    # Each to its own digits, but for rows that agree: one that is huge does not blur the others.
    found, expected = np.sqrt(geometry.squared_distances) * geometry.unit, distances(X)
    assert (np.abs(found - expected) <= 1e-7 * np.where(expected > 0, expected, norms)).all()
    alone, passes = geometry_of(on(device, Updates.of_rows(X)), Needs.NORMS)
    assert (passes, alone.measured) == (1, Needs.NORMS)
    np.testing.assert_allclose(alone.norms * alone.unit, norms, rtol=1e-12)


@pytest.mark.parametrize("needs", [Needs.NORMS, Needs.DISTANCES])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_for_reports(kind, needs, device):
    """Also of rows that were measured from among themselves, and of what is mixed of them: as they came."""
    X = matrix(kind, 9, 300, seed=3, dtype=np.float64)
    norms = np.linalg.norm(X, axis=1)
    updates = on(device, Updates.of_rows(X))
    np.testing.assert_allclose(measure(updates, needs).norms, norms, rtol=1e-9)
    buckets = np.kron(np.eye(3), np.full((1, 3), 1 / 3))
    np.testing.assert_allclose(measure(updates.mixed(buckets), needs).norms, norms, rtol=1e-12)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_distances_of_rows_that_nearly_agree(spread, device):
    base = np.random.default_rng(0).standard_normal(400)
    X = base + spread * np.random.default_rng(1).standard_normal((9, 400))
    X[0] *= -1e6  # a hostile one does not hide that the others agree
    geometry, _ = geometry_of(on(device, Updates.of_rows(X)))
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
        geometry, passes = geometry_of(updates, needs)
        assert passes == 3
        np.testing.assert_allclose(geometry.norms * geometry.unit, norms, rtol=1e-12)
    np.testing.assert_allclose(norms_of(updates, np.full(5, np.inf if scale > 1 else 0.0)), norms, rtol=1e-12)


def test_where_nothing_is_needed_nothing_is_read():
    geometry, passes = geometry_of(Updates.of_rows(np.full((3, 4), np.nan)), Needs.NOTHING)
    assert (geometry.count, geometry.measured, passes) == (3, Needs.NOTHING, 0)


def test_zero_rows_and_columns(device):
    for X in (np.zeros((4, 70)), np.zeros((4, 0)), np.zeros((1, 5), np.float32)):
        geometry, _ = geometry_of(on(device, Updates.of_rows(X)))
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


def test_the_central_row_is_among_the_majority():
    X = np.random.default_rng(0).standard_normal((9, 6)) * 1e-3 + 5.0
    X[:4] = 1e6 * np.random.default_rng(2).standard_normal((4, 6))
    row, closeness = central_row(X @ X.T)
    assert row >= 4
    assert closeness == pytest.approx(np.sort(distances(X)[row])[4] ** 2 / (X[row] @ X[row]), rel=1e-3)
    assert central_row(np.zeros((3, 3))) == (0, 1.0)
