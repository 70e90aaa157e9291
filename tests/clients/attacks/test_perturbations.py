"""MinMax, MinSum and TailoredTrimmedMean against the formulas of LASA 7.3, in plain float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import attacks
from tests.clients.attacks.data import DTYPES, draw

DIRECTIONS = ["std", "unit", "sign"]


def direction_of(honest, name):
    wide = honest.astype(np.float64)
    mean = wide.mean(axis=0)
    return {"std": -wide.std(axis=0), "unit": -mean / np.linalg.norm(mean), "sign": -np.sign(mean)}[name]


def gamma_of(honest, malicious, name):
    """Read off how far along the direction an update went, and check that it went nowhere else."""
    direction = direction_of(honest, name)
    shift = malicious.astype(np.float64) - honest.astype(np.float64).mean(axis=0)
    gamma = float(shift @ direction / (direction @ direction))
    np.testing.assert_allclose(shift, gamma * direction, atol=1e-5 * max(1.0, gamma))
    return gamma


def all_distances(honest):
    return np.array([[np.linalg.norm(a.astype(np.float64) - b) for b in honest] for a in honest])


def to_all(honest, update):
    return np.array([np.linalg.norm(row.astype(np.float64) - update) for row in honest])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_min_max_goes_to_its_bound_and_no_farther(direction, dtype, seed):
    honest = draw(8, 60, dtype, seed)
    made = attacks.MinMax(direction)(honest, 3)
    assert (made == made[0]).all()
    bound = all_distances(honest).max()
    assert to_all(honest, made[0]).max() <= bound
    gamma = gamma_of(honest, made[0], direction)
    beyond = honest.astype(np.float64).mean(axis=0) + 1.01 * gamma * direction_of(honest, direction)
    assert to_all(honest, beyond).max() > bound


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stealthy", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_min_sum_goes_to_its_bound_and_no_farther(direction, dtype, stealthy, seed):
    honest = draw(8, 60, dtype, seed)
    made = attacks.MinSum(direction, stealthy=stealthy)(honest, 3)
    assert (made == made[0]).all()
    totals = all_distances(honest).sum(axis=1)
    bound = totals.min() if stealthy else totals.max()
    assert to_all(honest, made[0]).sum() <= bound
    gamma = gamma_of(honest, made[0], direction)
    beyond = honest.astype(np.float64).mean(axis=0) + 1.01 * gamma * direction_of(honest, direction)
    assert to_all(honest, beyond).sum() > bound


def test_min_max_by_hand():
    # Rows at 0 and 2 on a line: mean 1, std 1, farthest pair 2. From b = 1 - gamma the farther row is 1 + gamma away.
    np.testing.assert_allclose(attacks.MinMax()(np.array([[0.0], [2.0]]), 1), [[0.0]], atol=1e-5)
    # Sums: 0, 0, 3 have totals 3, 3, 6; from b below 0 the sum is 3 - 3b, 6 at b = -1.
    np.testing.assert_allclose(attacks.MinSum()(np.array([[0.0], [0.0], [3.0]]), 1), [[-1.0]], atol=1e-5)
    # Stealthy: the bound is 3, which holds between the two of them at 0 and the one at 3 only at 0.
    made = attacks.MinSum(stealthy=True)(np.array([[0.0], [0.0], [3.0]]), 1)
    np.testing.assert_allclose(made, [[0.0]], atol=1e-5)


def test_sums_are_of_distances_not_of_squares():
    # Rows at 0, 2 and 3: totals 5, 3 and 4. The mean 5/3 has 10/3, which is more than 3: the row at 2 is sent.
    # Of squares the totals are 13, 5 and 10, and b could go down to 4/3.
    made = attacks.MinSum(stealthy=True)(np.array([[0.0], [2.0], [3.0]]), 1)
    np.testing.assert_allclose(made, [[2.0]])


@given(
    honest=st.integers(0, 10_000).map(lambda seed: draw(2 + seed % 9, 1 + seed % 7, seed=seed, centre=seed % 3)),
    direction=st.sampled_from(DIRECTIONS),
    outlier=st.floats(0, 1e6),
)
@settings(max_examples=150, deadline=None)
def test_bounds_hold_whatever_the_rows(honest, direction, outlier):
    honest[0] *= 1 + outlier
    slack = 1 + 1e-9
    assert to_all(honest, attacks.MinMax(direction)(honest, 1)[0]).max() <= all_distances(honest).max() * slack
    totals = all_distances(honest).sum(axis=1)
    assert to_all(honest, attacks.MinSum(direction)(honest, 1)[0]).sum() <= totals.max() * slack
    stealthy = attacks.MinSum(direction, stealthy=True)(honest, 1)[0]
    assert to_all(honest, stealthy).sum() <= totals.min() * slack


@pytest.mark.parametrize("attack", [attacks.MinMax(), attacks.MinSum(), attacks.MinSum(stealthy=True)])
@pytest.mark.parametrize("honest", [np.ones((1, 3)), np.ones((4, 3)), np.zeros((4, 3))])
def test_rows_that_agree_leave_no_room(attack, honest):
    np.testing.assert_allclose(attack(honest, 2), np.tile(honest[0], (2, 1)), atol=1e-12)


def trimmed_mean(rows, f):
    return np.sort(rows.astype(np.float64), axis=0)[f : len(rows) - f].mean(axis=0)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trim", [None, 2, 3])
def test_tailored_trimmed_mean_does_at_least_a_dense_grids_damage(direction, dtype, trim):
    honest, f = draw(9, 40, dtype, seed=2), 2
    made = attacks.TailoredTrimmedMean(trim, direction)(honest, f)
    gamma = gamma_of(honest, made[0], direction)
    mean, step = honest.astype(np.float64).mean(axis=0), direction_of(honest, direction)

    def damage(factor):
        rows = np.vstack([honest.astype(np.float64), np.tile(mean + factor * step, (f, 1))])
        return float(np.linalg.norm(trimmed_mean(rows, f if trim is None else trim) - mean))

    grid = [damage(factor) for factor in np.linspace(0, 4 * gamma + 1, 2001)]
    assert damage(gamma) >= max(grid) * (1 - 1e-5)


def test_tailored_trimmed_mean_by_hand():
    # Rows 0, 2, 4 and b = 2 - gamma std: for b below 0 the trimmed mean of four, f = 1, stays (0 + 2) / 2 = 1,
    # one below the mean. So the least gamma that gets there sends b = 0.
    made = attacks.TailoredTrimmedMean()(np.array([[0.0], [2.0], [4.0]]), 1)
    np.testing.assert_allclose(made, [[0.0]], atol=1e-6)


def test_more_attackers_than_are_trimmed_go_to_the_end_of_the_range():
    # Nothing bounds the damage then; the range ends where b is outermost in each coordinate, here at 0.
    made = attacks.TailoredTrimmedMean(0)(np.array([[0.0], [2.0], [4.0]]), 1)
    np.testing.assert_allclose(made, [[0.0]], atol=1e-6)


def test_trimming_more_than_there_is_is_refused():
    with pytest.raises(attacks.SearchError, match=r"3 honest and 3 malicious.*n > 2f"):
        attacks.TailoredTrimmedMean()(draw(3, 4), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.MinMax("up"), r"MinMax was given direction = 'up'; give one of \"unit\""),
        (lambda: attacks.MinSum(["std"]), r"MinSum was given direction"),
        (lambda: attacks.MinSum(stealthy="yes"), r"MinSum was given stealthy = 'yes'"),
        (lambda: attacks.TailoredTrimmedMean(-1), r"TailoredTrimmedMean was given f = -1"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
