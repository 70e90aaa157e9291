"""SignFlip, FallOfEmpires, ALittleIsEnough and Lie against the papers' formulas, in plain float64."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest

from clients import attacks
from tests.clients.attacks.data import DTYPES, draw, mean_of, std_of

SHAPES = [(1, 3, 1), (2, 5, 1), (7, 40, 3), (10, 70_000, 2)]


REFERENCES = {
    "sign-flip": (attacks.SignFlip(), lambda x: -mean_of(x)),
    "foe-0": (attacks.FallOfEmpires(0), mean_of),
    "foe-1.5": (attacks.FallOfEmpires(1.5), lambda x: -0.5 * mean_of(x)),
    "foe-10": (attacks.FallOfEmpires(10.0), lambda x: -9 * mean_of(x)),
    "alie-1.5": (attacks.ALittleIsEnough(1.5), lambda x: mean_of(x) + 1.5 * std_of(x)),
    "lie": (attacks.Lie(), lambda x: mean_of(x) - 0.5 * std_of(x)),
    "lie-sample": (attacks.Lie(2.0, ddof=1), lambda x: mean_of(x) - 2 * std_of(x, 1)),
    "alie-sample": (
        attacks.ALittleIsEnough(1.5, ddof=1),
        lambda x: mean_of(x) + 1.5 * std_of(x, 1),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_honest", "columns", "f"), SHAPES)
def test_formula(name, dtype, num_honest, columns, f):
    attack, reference = REFERENCES[name]
    honest = draw(num_honest, columns, dtype)
    before = honest.copy()
    malicious = attack(honest, f)
    assert malicious.shape == (f, columns)
    assert malicious.dtype == dtype
    assert np.isfinite(malicious).all()
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    expected = np.tile(reference(honest), (f, 1))
    np.testing.assert_allclose(malicious, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(honest, before)


def test_by_hand():
    # mean (3, 2), population std (sqrt(8/3), sqrt(8)), sample std (2, sqrt(12))
    honest = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    np.testing.assert_allclose(attacks.SignFlip()(honest, 1), [[-3, -2]])
    np.testing.assert_allclose(attacks.FallOfEmpires(3)(honest, 2), [[-6, -4], [-6, -4]])
    np.testing.assert_allclose(attacks.ALittleIsEnough(2)(honest, 1), [[3 + 2 * sqrt(8 / 3), 2 + 2 * sqrt(8)]])
    np.testing.assert_allclose(attacks.ALittleIsEnough(2, ddof=1)(honest, 1), [[7, 2 + 2 * sqrt(12)]])


def test_tau_2_is_sign_flip():
    honest = draw(6, 30, np.float32)
    np.testing.assert_array_equal(attacks.FallOfEmpires(2)(honest, 2), attacks.SignFlip()(honest, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_close_rows_far_from_zero(dtype):
    # Rows that agree to 1e-4: a naive E[x^2] - E[x]^2 in float32 has nothing left.
    honest = (1000 + draw(8, 50, np.float64, centre=0.0) * 0.1).astype(dtype)
    shift = attacks.ALittleIsEnough(5)(honest, 1).astype(np.float64)[0] - mean_of(honest)
    np.testing.assert_allclose(shift, 5 * std_of(honest), atol=1e-4 if dtype == np.float32 else 1e-11)


def test_one_honest_node():
    honest = np.array([[2.0, -1.0]], dtype=np.float32)
    for tau in (1.5, "auto"):
        for ddof in (0, 1):
            malicious = attacks.ALittleIsEnough(tau, ddof=ddof)(honest, 1)
            np.testing.assert_array_equal(malicious, honest)


@pytest.mark.parametrize(("num_honest", "f"), [(10, 1), (9, 4), (13, 4), (26, 24), (40, 10), (30, 20)])
def test_auto_is_baruchs_z(num_honest, f):
    n = num_honest + f
    s = n // 2 + 1 - f
    z = NormalDist().inv_cdf((n - f - s) / (n - f))
    honest = draw(num_honest, 9)
    expected = mean_of(honest) + z * std_of(honest)
    np.testing.assert_allclose(attacks.ALittleIsEnough("auto")(honest, f)[0], expected, rtol=1e-12)


def test_auto_of_the_papers_example():
    # Baruch et al. 2019, section 3: n = 50, m = 24 give s = 2 and z = Phi^-1(24/26), about 1.43.
    assert attacks.ALittleIsEnough("auto").factor(draw(26, 2), 24) == pytest.approx(1.426, abs=1e-3)


@pytest.mark.parametrize(("num_honest", "f"), [(1, 1), (1, 5), (2, 0), (3, 9)])
def test_auto_stays_finite(num_honest, f):
    assert np.isfinite(attacks.ALittleIsEnough("auto")(draw(num_honest, 4), f)).all()


def test_optimal_needs_the_rule():
    for attack in (attacks.FallOfEmpires("optimal"), attacks.ALittleIsEnough(tau="optimal")):
        with pytest.raises(ValueError, match="needs the server's rule"):
            attack(draw(3, 4), 1)


@pytest.mark.parametrize("tau", [-1, float("nan"), float("inf"), "best", None, True, [1.0]])
@pytest.mark.parametrize("attack", [attacks.FallOfEmpires, attacks.ALittleIsEnough])
def test_wrong_tau(attack, tau):
    with pytest.raises(ValueError, match=f"{attack.__name__} was given tau"):
        attack(tau)


def test_auto_is_for_a_little_is_enough_only():
    with pytest.raises(ValueError, match='give a finite number of 0 or more, or "optimal"'):
        attacks.FallOfEmpires("auto")


@pytest.mark.parametrize("factors", [[], [-1.0], "123", [float("inf")], [1, None]])
def test_wrong_factors(factors):
    with pytest.raises(ValueError, match="was given factors"):
        attacks.FallOfEmpires("optimal", factors=factors)


@pytest.mark.parametrize("ddof", [2, -1, True, 0.5])
def test_wrong_ddof(ddof):
    with pytest.raises(ValueError, match="was given ddof"):
        attacks.ALittleIsEnough(ddof=ddof)
