from __future__ import annotations

import re

import numpy as np
import pytest

from flwr_robust.rules.checks import check_f, norm_order, number, refuse_non_finite, whole_number

NAN, INF = float("nan"), float("inf")


def refused(check, *given, says, **options):
    with pytest.raises(ValueError, match=re.escape(says)):
        check(*given, **options)


@pytest.mark.parametrize("f", [0, 3, np.int64(3), 0.0, 0.49, np.float32(0.25)])
def test_f_is_a_number_of_rows_or_a_fraction(f):
    found = check_f(f, "Krum")
    assert found == f
    assert type(found) in (int, float)


@pytest.mark.parametrize("f", [-1, 0.5, 1.2, -0.1, "2", None, True, NAN, INF, 2.0])
def test_no_other_f(f):
    says = f"Krum was given f = {f!r}; give a whole number of rows (0 or more) or a fraction of them in [0, 0.5)."
    refused(check_f, f, "Krum", says=says)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "allowed"),
    [
        ({"above": 0}, (1e-9, 7, np.float32(2)), (0, -1), "a finite number above 0"),
        ({"at_least": 1}, (1, 1.5), (0.99,), "a finite number of 1 or more"),
        ({"at_least": 0, "below": 1}, (0, 0.999), (1, -0.1), "a number in [0, 1)"),
        ({"above": 0, "at_most": 1}, (0.001, 1), (0, 1.001), "a number in (0, 1]"),
    ],
)
def test_numbers_lie_within_bounds(bounds, inside, outside, allowed):
    for value in inside:
        found = number(value, "tau", "Rule", **bounds)
        assert found == pytest.approx(value)
        assert type(found) is float
    for value in (*outside, "1", None, True, np.bool_(True), NAN, INF, [1]):
        refused(number, value, "tau", "Rule", **bounds, says=f"Rule was given tau = {value!r}; give {allowed}.")


def test_whole_numbers():
    assert whole_number(np.int32(4), "m", "Rule") == 4
    assert whole_number(0, "seed", "Rule", at_least=0) == 0
    assert whole_number(None, "m", "Rule", or_none=True) is None
    for value in (0, -2, 1.0, "3", True, None):
        refused(whole_number, value, "m", "Rule", says=f"Rule was given m = {value!r}; give a whole number above 0.")
    refused(whole_number, -1, "m", "Rule", at_least=0, or_none=True, says="give None or a whole number of 0 or more.")


def test_orders_of_norms():
    assert norm_order(1, "Krum") == 1.0
    assert norm_order(np.int64(16), "Krum") == 16.0
    assert norm_order(INF, "Krum") == INF
    for value in (0.99, -2, NAN, "2", None, True):
        refused(norm_order, value, "Krum", says=f"Krum was given p = {value!r}; give the order of an lp norm: a number")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_states_that_are_not_finite_are_refused_by_name(bad, dtype):
    good = {"a": np.ones((2, 3), dtype), "draws": np.array([7], np.uint64), "empty": np.empty(0, dtype)}
    refuse_non_finite(good, "Krum")
    spoilt = np.ones((2, 3), dtype)
    spoilt[1, 1] = bad
    with pytest.raises(ValueError, match=r"Krum was given a state with NaN or infinity in b, c; load one that"):
        refuse_non_finite({**good, "c": spoilt, "b": spoilt}, "Krum")
