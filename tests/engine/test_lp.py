from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.lp import distances_of, distances_to, squared_lp_distances
from flwr_robust.engine.measure import measure
from flwr_robust.engine.passes import NonFiniteRowsError
from flwr_robust.engine.rows import Rows
from flwr_robust.engine.updates import Updates
from tests.rules.chains import on
from tests.rules.data import matrix
from tests.rules.references import lp_norm

PS = [1, 1.5, 3, 16, np.inf]
MIXING = np.random.default_rng(6).dirichlet(np.ones(6), size=4)


def rows_of(X, mixing=None, device=None):
    updates = on(device, Updates.of_rows(X))
    geometry = measure(updates).geometry.first(len(X))
    geometry = geometry if mixing is None else geometry.mix(mixing)
    return Rows(updates, geometry, len(X), mixed=mixing is not None, threads=2)


def plain(X, p):
    return np.array([[lp_norm(x - y, p) for y in X] for x in X])


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("p", PS)
def test_distances_of_pairs_relative_to_the_largest(p, device):
    if device:
        pytest.importorskip("torch")
    for kind in ("normal", "hostile", "tiny", "huge", "duplicates"):
        X = matrix(kind, 6, 200, seed=1, dtype=np.float64)
        for mixing, Y in ((None, X), (MIXING, MIXING @ X)):
            rows = rows_of(X, mixing, device)
            expected = plain(Y, p)
            squares = np.square(expected / expected.max())
            found = distances_of(rows, p)
            np.testing.assert_allclose(found, squares, rtol=1e-6, atol=1e-14)
            np.testing.assert_array_equal(found, found.T)
            assert rows.passes == 1
            np.testing.assert_allclose(rows.norms, np.linalg.norm(X, axis=1))
            again = squared_lp_distances(rows.points, rows.geometry.mixing, p)
            np.testing.assert_allclose(again, found, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("p", PS)
def test_distances_to_a_centre(p):
    X, centre = matrix("normal", 6, 200, seed=1, dtype=np.float64), np.arange(200.0)
    for mixing, Y in ((None, X), (MIXING, MIXING @ X)):
        for which in (None, [3, 0]):
            rows = rows_of(X, mixing)
            found = distances_to(rows, lambda block, start: centre[start : start + block.shape[1]], p, which)
            chosen = Y if which is None else Y[which]
            np.testing.assert_allclose(found, [lp_norm(y - centre, p) for y in chosen])
            assert rows.passes == 1
    # The centre may be made of the rows themselves.
    found = distances_to(rows_of(X), lambda block, start: block.mean(axis=0), p)
    np.testing.assert_allclose(found, [lp_norm(x - X.mean(axis=0), p) for x in X])


def test_rows_that_agree_are_at_no_distance():
    assert np.array_equal(distances_of(rows_of(np.ones((3, 70))), 3), np.zeros((3, 3)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("p", PS)
def test_rows_that_are_not_finite_are_found_first(p):
    X = matrix("normal", 6, 200, seed=1)
    rows = rows_of(X)
    X[[1, 4], 66] = np.inf, np.nan
    for find in (lambda: distances_of(rows, p), lambda: distances_to(rows, lambda block, start: block[0], p)):
        with pytest.raises(NonFiniteRowsError, match=r"rows \[1, 4\]"):
            find()
