"""LASA's attacks against the formulas of its section 7.3, in plain float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import attacks
from flwr_robust import rules

DTYPES = [np.float32, np.float64]
DIRECTIONS = ["std", "unit", "sign"]


def draw(rows: int, columns: int, dtype: Any = np.float64, seed: int = 0, centre: float = 0.3) -> Any:
    return np.random.default_rng(seed).normal(centre, 1.0, (rows, columns)).astype(dtype)


def direction_of(honest: Any, name: str) -> Any:
    wide = honest.astype(np.float64)
    mean = wide.mean(axis=0)
    return {"std": -wide.std(axis=0), "unit": -mean / np.linalg.norm(mean), "sign": -np.sign(mean)}[name]


def gamma_of(honest: Any, malicious: Any, name: str) -> float:
    """Read off how far along the direction an update went, and check that it went nowhere else."""
    direction = direction_of(honest, name)
    shift = malicious.astype(np.float64) - honest.astype(np.float64).mean(axis=0)
    gamma = float(shift @ direction / (direction @ direction))
    np.testing.assert_allclose(shift, gamma * direction, atol=1e-5 * max(1.0, gamma))
    return gamma


def all_distances(honest: Any) -> Any:
    return np.array([[np.linalg.norm(a.astype(np.float64) - b) for b in honest] for a in honest])


def to_all(honest: Any, update: Any) -> Any:
    return np.array([np.linalg.norm(row.astype(np.float64) - update) for row in honest])


@pytest.mark.parametrize("dtype", DTYPES)
def test_lie(dtype: Any) -> None:
    honest = draw(7, 30, dtype)
    wide = honest.astype(np.float64)
    expected = wide.mean(axis=0) - 0.5 * np.sqrt(((wide - wide.mean(axis=0)) ** 2).sum(axis=0) / 7)
    made = attacks.Lie()(honest, 2)
    assert made.dtype == dtype
    np.testing.assert_allclose(made, np.tile(expected, (2, 1)), rtol=1e-5, atol=1e-6)
    by_hand = attacks.Lie(2.0, ddof=1)(np.array([[1.0], [3.0], [5.0]]), 1)
    np.testing.assert_allclose(by_hand, [[3 - 2 * 2]])


def test_random_is_standard_noise_that_knows_no_update() -> None:
    made = attacks.Random(std=0.5, seed=3)(np.full((4, 40_000), 7.0, np.float32), 3)
    assert made.dtype == np.float32
    assert abs(made.mean()) < 0.01
    np.testing.assert_allclose(made.std(axis=1), 0.5, atol=0.01)
    correlations = np.corrcoef(made) - np.eye(3)
    assert abs(correlations).max() < 0.03  # each node draws for itself


@pytest.mark.parametrize("own", [True, False])
def test_noise_is_added_to_the_own_update_or_to_the_mean(own: bool) -> None:
    honest, mine = draw(4, 40_000), draw(2, 40_000, seed=1, centre=9.0)
    made = attacks.Noise(std=0.25, seed=3)(honest, 2, own=mine if own else None)
    noise = made - (mine if own else honest.mean(axis=0))
    assert abs(noise.mean()) < 0.01
    np.testing.assert_allclose(noise.std(axis=1), 0.25, atol=0.01)
    np.testing.assert_array_equal(attacks.Noise(std=0.0)(honest, 2, own=mine), mine)


@pytest.mark.parametrize("kind", [attacks.Random, attacks.Noise, attacks.RandomEpsilon])
def test_draws_follow_the_seed_the_round_and_the_place(kind: Any) -> None:
    honest = draw(3, 50)

    def rounds(attack: attacks.Attack, count: int) -> Any:
        return [attack(honest, 1) for _ in range(count)]

    attack = kind(seed=5)
    first = rounds(attack, 6)
    assert len({row.tobytes() for row in first}) > 1
    np.testing.assert_array_equal(rounds(kind(seed=5), 6), first)
    attack.reset()
    np.testing.assert_array_equal(rounds(attack, 6), first)
    assert any((a != b).any() for a, b in zip(first, rounds(kind(seed=6), 6), strict=True))
    resumed = kind(seed=77)
    broken = kind(seed=5)
    assert (rounds(broken, 4)[0] == first[0]).all()
    resumed.load_state(broken.state())
    np.testing.assert_array_equal(rounds(resumed, 2), first[4:])

    def at(*place: int) -> Any:
        attack.draw_for(*place)
        return rounds(attack, 6)

    np.testing.assert_array_equal(at(3, 1), at(3, 1))
    others = [np.concatenate(at(*place)).tobytes() for place in [(3, 1), (3, 2), (4, 1), (3,), (1, 3)]]
    assert len(set(others)) == 5
    with pytest.raises(ValueError, match="load that of the same attack"):
        attack.load_state({"rounds": np.array(1)})


def test_unseeded_draws_differ_and_can_be_resumed() -> None:
    honest = draw(3, 50)
    one, other = attacks.Random(), attacks.Random()
    assert (one(honest, 1) != other(honest, 1)).any()
    other.load_state(one.state())
    np.testing.assert_array_equal(one(honest, 1), other(honest, 1))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_min_max_goes_to_its_bound_and_no_farther(direction: str, dtype: Any, seed: int) -> None:
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
def test_min_sum_goes_to_its_bound_and_no_farther(direction: str, dtype: Any, stealthy: bool, seed: int) -> None:
    honest = draw(8, 60, dtype, seed)
    made = attacks.MinSum(direction, stealthy=stealthy)(honest, 3)
    assert (made == made[0]).all()
    totals = all_distances(honest).sum(axis=1)
    bound = totals.min() if stealthy else totals.max()
    assert to_all(honest, made[0]).sum() <= bound
    gamma = gamma_of(honest, made[0], direction)
    beyond = honest.astype(np.float64).mean(axis=0) + 1.01 * gamma * direction_of(honest, direction)
    assert to_all(honest, beyond).sum() > bound


def test_min_max_by_hand() -> None:
    # Rows at 0 and 2 on a line: mean 1, std 1, farthest pair 2. From b = 1 - gamma the farther row is 1 + gamma away.
    np.testing.assert_allclose(attacks.MinMax()(np.array([[0.0], [2.0]]), 1), [[0.0]], atol=1e-5)
    # Sums: 0, 0, 3 have totals 3, 3, 6; from b below 0 the sum is 3 - 3b, 6 at b = -1.
    np.testing.assert_allclose(attacks.MinSum()(np.array([[0.0], [0.0], [3.0]]), 1), [[-1.0]], atol=1e-5)
    # Stealthy: the bound is 3, which holds between the two of them at 0 and the one at 3 only at 0.
    made = attacks.MinSum(stealthy=True)(np.array([[0.0], [0.0], [3.0]]), 1)
    np.testing.assert_allclose(made, [[0.0]], atol=1e-5)


@given(
    honest=st.integers(0, 10_000).map(lambda seed: draw(2 + seed % 9, 1 + seed % 7, seed=seed, centre=seed % 3)),
    direction=st.sampled_from(DIRECTIONS),
    outlier=st.floats(0, 1e6),
)
@settings(max_examples=150, deadline=None)
def test_bounds_hold_whatever_the_rows(honest: Any, direction: str, outlier: float) -> None:
    honest[0] *= 1 + outlier
    slack = 1 + 1e-9
    assert to_all(honest, attacks.MinMax(direction)(honest, 1)[0]).max() <= all_distances(honest).max() * slack
    totals = all_distances(honest).sum(axis=1)
    assert to_all(honest, attacks.MinSum(direction)(honest, 1)[0]).sum() <= totals.max() * slack
    stealthy = attacks.MinSum(direction, stealthy=True)(honest, 1)[0]
    assert to_all(honest, stealthy).sum() <= totals.min() * slack


@pytest.mark.parametrize("attack", [attacks.MinMax(), attacks.MinSum(), attacks.MinSum(stealthy=True)])
@pytest.mark.parametrize("honest", [np.ones((1, 3)), np.ones((4, 3)), np.zeros((4, 3))])
def test_rows_that_agree_leave_no_room(attack: attacks.Attack, honest: Any) -> None:
    np.testing.assert_allclose(attack(honest, 2), np.tile(honest[0], (2, 1)), atol=1e-12)


def trimmed_mean(rows: Any, f: int) -> Any:
    return np.sort(rows.astype(np.float64), axis=0)[f : len(rows) - f].mean(axis=0)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trim", [None, 2, 3])
def test_tailored_trimmed_mean_does_at_least_a_dense_grids_damage(direction: str, dtype: Any, trim: int | None) -> None:
    honest, f = draw(9, 40, dtype, seed=2), 2
    made = attacks.TailoredTrimmedMean(trim, direction)(honest, f)
    gamma = gamma_of(honest, made[0], direction)
    mean, step = honest.astype(np.float64).mean(axis=0), direction_of(honest, direction)

    def damage(factor: float) -> float:
        rows = np.vstack([honest.astype(np.float64), np.tile(mean + factor * step, (f, 1))])
        return float(np.linalg.norm(trimmed_mean(rows, f if trim is None else trim) - mean))

    grid = [damage(factor) for factor in np.linspace(0, 4 * gamma + 1, 2001)]
    assert damage(gamma) >= max(grid) * (1 - 1e-5)


def test_tailored_trimmed_mean_by_hand() -> None:
    # Rows 0, 2, 4 and b = 2 - gamma std: for b below 0 the trimmed mean of four, f = 1, stays (0 + 2) / 2 = 1,
    # one below the mean. So the least gamma that gets there sends b = 0.
    made = attacks.TailoredTrimmedMean()(np.array([[0.0], [2.0], [4.0]]), 1)
    np.testing.assert_allclose(made, [[0.0]], atol=1e-6)


@pytest.mark.parametrize("base", [None, attacks.Lie(1.5), attacks.SignFlip(), attacks.Random(seed=2), attacks.MinMax()])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", [1, 2, 3, 6])
def test_byz_mean_makes_the_mean_of_all_the_base_attacks(base: Any, dtype: Any, f: int) -> None:
    honest = draw(9, 80, dtype)
    attack = attacks.ByzMean() if base is None else attacks.ByzMean(base)
    attack.reset()
    made = attack(honest, f)
    assert made.shape == (f, 80)
    first = f // 2
    attack.reset()
    wanted = attack.base(honest, max(first, 1)).astype(np.float64)
    np.testing.assert_allclose(made[:first], wanted[:first], atol=1e-6)
    everybody = np.vstack([honest, made]).astype(np.float64)
    np.testing.assert_allclose(everybody.mean(axis=0), wanted.mean(axis=0), atol=1e-5)
    assert (made[first:] == made[first]).all()


def test_byz_mean_by_the_papers_formula() -> None:
    honest, f = draw(8, 5), 4
    made = attacks.ByzMean(attacks.Lie(0.5))(honest, f)
    beta = honest.mean(axis=0) - 0.5 * honest.std(axis=0)
    n, m1 = 12, 2
    np.testing.assert_allclose(made[:m1], [beta, beta])
    np.testing.assert_allclose(made[m1], ((n - m1) * beta - honest.sum(axis=0)) / (f - m1))


def test_byz_mean_knows_what_its_base_knows() -> None:
    assert attacks.ByzMean().knows == "honest"
    assert attacks.ByzMean(attacks.Random()).knows == "honest"
    optimal = attacks.ByzMean(attacks.ALittleIsEnough("optimal"))
    assert optimal.knows == "rule"
    honest, rule = draw(9, 6), rules.Krum(f=2)
    wanted = attacks.ALittleIsEnough("optimal")(honest, 1, rule=rules.Krum(f=2))
    made = optimal(honest, 2, rule=rule)
    np.testing.assert_allclose(made[0], wanted[0])
    assert attacks.ByzMean()(honest, 0).shape == (0, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.Lie(-1), r"Lie was given z = -1; give a finite number of 0 or more"),
        (lambda: attacks.Lie(ddof=3), r"Lie was given ddof = 3"),
        (lambda: attacks.Random(std=-0.1), r"Random was given std = -0.1"),
        (lambda: attacks.Noise(float("nan")), r"Noise was given std = nan"),
        (lambda: attacks.Noise(seed=-1), r"Noise was given seed = -1"),
        (lambda: attacks.Random(seed=True), r"Random was given seed = True"),
        (lambda: attacks.MinMax("up"), r"MinMax was given direction = 'up'; give one of \"unit\""),
        (lambda: attacks.MinSum(["std"]), r"MinSum was given direction"),  # type: ignore[arg-type]
        (lambda: attacks.MinSum(stealthy="yes"), r"MinSum was given stealthy = 'yes'"),  # type: ignore[arg-type]
        (lambda: attacks.TailoredTrimmedMean(-1), r"TailoredTrimmedMean was given f = -1"),
        (lambda: attacks.ByzMean(attacks.LabelFlip(10)), r"ByzMean was given base = LabelFlip"),
        (lambda: attacks.ByzMean(attacks.Silent()), r"ByzMean was given base = Silent"),
        (lambda: attacks.ByzMean("lie"), r"ByzMean was given base = 'lie'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_parameters(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_trimming_more_than_there_is_is_refused() -> None:
    with pytest.raises(attacks.SearchError, match=r"3 honest and 3 malicious.*n > 2f"):
        attacks.TailoredTrimmedMean()(draw(3, 4), 3)


def test_more_attackers_than_are_trimmed_go_to_the_end_of_the_range() -> None:
    # Nothing bounds the damage then; the range ends where b is outermost in each coordinate, here at 0.
    made = attacks.TailoredTrimmedMean(0)(np.array([[0.0], [2.0], [4.0]]), 1)
    np.testing.assert_allclose(made, [[0.0]], atol=1e-6)


def test_sums_are_of_distances_not_of_squares() -> None:
    # Rows at 0, 2 and 3: totals 5, 3 and 4. The mean 5/3 has 10/3, which is more than 3: the row at 2 is sent.
    # Of squares the totals are 13, 5 and 10, and b could go down to 4/3.
    made = attacks.MinSum(stealthy=True)(np.array([[0.0], [2.0], [3.0]]), 1)
    np.testing.assert_allclose(made, [[2.0]])
