"""SignFlip, FallOfEmpires and ALittleIsEnough against the papers' formulas, in plain float64."""

from __future__ import annotations

import subprocess
import sys
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from clients import attacks
from flwr_robust import rules

SHAPES = [(1, 3, 1), (2, 5, 1), (7, 40, 3), (10, 70_000, 2)]


def draw(rows: int, columns: int, dtype: Any = np.float64, seed: int = 0, centre: float = 0.3) -> Any:
    return np.random.default_rng(seed).normal(centre, 1.0, (rows, columns)).astype(dtype)


def reference_mean(honest: Any) -> Any:
    return honest.astype(np.float64).sum(axis=0) / len(honest)


def reference_std(honest: Any, ddof: int = 0) -> Any:
    if len(honest) == ddof:
        return np.zeros(honest.shape[1])
    wide = honest.astype(np.float64)
    return np.sqrt(((wide - reference_mean(honest)) ** 2).sum(axis=0) / (len(honest) - ddof))


def krum(f: int) -> Any:
    """Krum over the n - f - 1 nearest others (NNM 8.1.2)."""

    def rule(rows: Any) -> Any:
        distances = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2)
        scores = np.sort(distances, axis=1)[:, 1 : len(rows) - f].sum(axis=1)
        return rows[int(np.argmin(scores))]

    return rule


def median(rows: Any) -> Any:
    return np.median(rows, axis=0)


def damage(honest: Any, direction: Any, f: int, rule: Any, tau: float) -> float:
    """Return the distance between the rule's output under this factor and the honest mean."""
    mean = reference_mean(honest)
    malicious = np.repeat((mean + tau * direction)[None], f, axis=0).astype(honest.dtype)
    output = np.asarray(rule(np.vstack([honest, malicious])), dtype=np.float64)
    return float(np.sqrt(((output - mean) ** 2).sum()))


REFERENCES = {
    "sign-flip": (attacks.SignFlip(), lambda x: -reference_mean(x)),
    "foe-0": (attacks.FallOfEmpires(0), reference_mean),
    "foe-1.5": (attacks.FallOfEmpires(1.5), lambda x: -0.5 * reference_mean(x)),
    "foe-10": (attacks.FallOfEmpires(10.0), lambda x: -9 * reference_mean(x)),
    "alie-1.5": (attacks.ALittleIsEnough(1.5), lambda x: reference_mean(x) + 1.5 * reference_std(x)),
    "alie-sample": (
        attacks.ALittleIsEnough(1.5, ddof=1),
        lambda x: reference_mean(x) + 1.5 * reference_std(x, 1),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("num_honest", "columns", "f"), SHAPES)
def test_formula(name: str, dtype: Any, num_honest: int, columns: int, f: int) -> None:
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


def test_by_hand() -> None:
    # mean (3, 2), population std (sqrt(8/3), sqrt(8)), sample std (2, sqrt(12))
    honest = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    np.testing.assert_allclose(attacks.SignFlip()(honest, 1), [[-3, -2]])
    np.testing.assert_allclose(attacks.FallOfEmpires(3)(honest, 2), [[-6, -4], [-6, -4]])
    np.testing.assert_allclose(attacks.ALittleIsEnough(2)(honest, 1), [[3 + 2 * sqrt(8 / 3), 2 + 2 * sqrt(8)]])
    np.testing.assert_allclose(attacks.ALittleIsEnough(2, ddof=1)(honest, 1), [[7, 2 + 2 * sqrt(12)]])


def test_tau_2_is_sign_flip() -> None:
    honest = draw(6, 30, np.float32)
    np.testing.assert_array_equal(attacks.FallOfEmpires(2)(honest, 2), attacks.SignFlip()(honest, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_close_rows_far_from_zero(dtype: Any) -> None:
    # Rows that agree to 1e-4: a naive E[x^2] - E[x]^2 in float32 has nothing left.
    honest = (1000 + draw(8, 50, np.float64, centre=0.0) * 0.1).astype(dtype)
    shift = attacks.ALittleIsEnough(5)(honest, 1).astype(np.float64)[0] - reference_mean(honest)
    np.testing.assert_allclose(shift, 5 * reference_std(honest), atol=1e-4 if dtype == np.float32 else 1e-11)


def test_one_honest_node() -> None:
    honest = np.array([[2.0, -1.0]], dtype=np.float32)
    for tau in (1.5, "auto"):
        for ddof in (0, 1):
            malicious = attacks.ALittleIsEnough(tau, ddof=ddof)(honest, 1)
            np.testing.assert_array_equal(malicious, honest)


@pytest.mark.parametrize(("num_honest", "f"), [(10, 1), (9, 4), (13, 4), (26, 24), (40, 10), (30, 20)])
def test_auto_is_baruchs_z(num_honest: int, f: int) -> None:
    n = num_honest + f
    s = n // 2 + 1 - f
    z = NormalDist().inv_cdf((n - f - s) / (n - f))
    honest = draw(num_honest, 9)
    expected = reference_mean(honest) + z * reference_std(honest)
    np.testing.assert_allclose(attacks.ALittleIsEnough("auto")(honest, f)[0], expected, rtol=1e-12)


def test_auto_of_the_papers_example() -> None:
    # Baruch et al. 2019, section 3: n = 50, m = 24 give s = 2 and z = Phi^-1(24/26), about 1.43.
    assert attacks.ALittleIsEnough("auto").factor(draw(26, 2), 24) == pytest.approx(1.426, abs=1e-3)


@pytest.mark.parametrize(("num_honest", "f"), [(1, 1), (1, 5), (2, 0), (3, 9)])
def test_auto_stays_finite(num_honest: int, f: int) -> None:
    assert np.isfinite(attacks.ALittleIsEnough("auto")(draw(num_honest, 4), f)).all()


RULES = {
    "median": (median, 2),
    "krum": (krum(2), 2),
    "chain": (rules.chain(rules.NNM(f=2), rules.TrimmedMean(f=2)), 2),
    "arc chain": (rules.chain(rules.ARC(f=3), rules.NNM(f=3), rules.Krum(f=3)), 3),
    "mean": (lambda rows: rows.mean(axis=0), 1),
}
OPTIMAL = {
    "foe": (attacks.FallOfEmpires, lambda x: -reference_mean(x)),
    "alie": (attacks.ALittleIsEnough, reference_std),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("family", OPTIMAL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_optimal_does_the_largest_damage(name: str, family: str, dtype: Any) -> None:
    (rule, f), (attack, direction) = RULES[name], OPTIMAL[family]
    honest = draw(9, 25, dtype, seed=3)
    towards = direction(honest)
    damages = {tau: damage(honest, towards, f, rule, tau) for tau in np.arange(0, 10.25, 0.25)}
    optimal = attack("optimal")
    tau = optimal.factor(honest, f, rule)
    assert tau in damages
    assert damages[tau] >= max(damages.values()) * (1 - 1e-6)
    expected = reference_mean(honest) + tau * towards
    np.testing.assert_allclose(optimal(honest, f, rule=rule)[0], expected, rtol=1e-5, atol=1e-6)


def test_optimal_against_the_mean_takes_the_largest_factor() -> None:
    # The mean's error grows with tau, whatever the data: f / n * tau * |a|.
    honest = draw(5, 8)
    best, damages = attacks.line_search(honest, np.ones(8), 2, lambda rows: rows.mean(axis=0), [0, 1, 4, 2])
    assert best == 4
    np.testing.assert_allclose(damages, 2 / 7 * np.sqrt(8) * np.array([0, 1, 4, 2]), atol=1e-12)


def test_ties_take_the_smallest_factor() -> None:
    assert attacks.line_search(draw(5, 4), np.ones(4), 1, lambda rows: rows[0], [3.0, 1.0, 2.0])[0] == 1.0


def test_search_leaves_rule_and_updates_alone() -> None:
    class Counting:
        calls = 0
        rng = np.random.default_rng(0)

        def __call__(self, rows: Any) -> Any:
            self.calls += 1
            return rows[self.rng.integers(len(rows))]

    rule, honest = Counting(), draw(5, 4)
    rule.rng = np.random.default_rng(7)
    before = honest.copy()
    attacks.FallOfEmpires("optimal")(honest, 1, rule=rule)
    assert rule.calls == 0
    assert rule.rng.integers(1 << 40) == np.random.default_rng(7).integers(1 << 40)
    np.testing.assert_array_equal(honest, before)


def test_factors_that_the_rule_refuses_are_passed_over() -> None:
    def picky(rows: Any) -> Any:
        if abs(rows[-1, 0]) > 4:
            raise ValueError("row too long")
        return rows[-1]

    honest = np.zeros((3, 2))
    best, damages = attacks.line_search(honest, np.ones(2), 1, picky, [1.0, 3.0, 9.0])
    assert best == 3.0
    assert np.isnan(damages).tolist() == [False, False, True]


def test_factors_that_overflow_are_passed_over() -> None:
    honest = np.full((3, 2), 1e38, dtype=np.float32)
    best, _ = attacks.line_search(honest, np.full(2, 1e38), 1, lambda rows: rows[-1], [1.0, 2.0, 9.0])
    assert best == 2.0


def test_a_rule_that_refuses_everything() -> None:
    with pytest.raises(attacks.SearchError, match=r"none of 41 factors.*3 honest and 2 malicious.*n > 2f"):
        attacks.ALittleIsEnough("optimal")(draw(3, 4), 2, rule=rules.Krum(f=3))


def test_a_bug_in_the_rule_is_not_hidden() -> None:
    with pytest.raises(TypeError):
        attacks.ALittleIsEnough("optimal")(draw(3, 4), 1, rule=lambda: None)


def test_optimal_needs_the_rule() -> None:
    for attack in (attacks.FallOfEmpires("optimal"), attacks.ALittleIsEnough(tau="optimal")):
        with pytest.raises(ValueError, match="needs the server's rule"):
            attack(draw(3, 4), 1)


def test_knowledge() -> None:
    assert attacks.SignFlip().knows == "honest"
    assert attacks.ALittleIsEnough("auto").knows == "honest"
    assert attacks.ALittleIsEnough("optimal").knows == "rule"
    assert attacks.FallOfEmpires("optimal").knows == "rule"
    assert attacks.FallOfEmpires.knows == "honest"


@pytest.mark.parametrize("attack", [attacks.SignFlip(), attacks.ALittleIsEnough(1.0), attacks.Mimic(1)])
@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_torch_tensors(attack: attacks.Attack, name: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    attack.reset()
    honest = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    malicious = attack(honest, 2)
    attack.reset()
    assert isinstance(malicious, torch.Tensor)
    assert malicious.dtype == dtype
    expected = attack(np.array([[1.0, 2.0], [3.0, 4.0]]), 2)
    np.testing.assert_array_equal(malicious.to(torch.float64).numpy(), expected)


def test_own_attacks_keep_to_the_dtype_too() -> None:
    class Double(attacks.Attack):
        knows = "honest"

        def craft(self, sight: attacks.Sight) -> Any:
            return np.tile(2 * sight.honest.astype(np.float64).mean(axis=0), (sight.f, 1))

    malicious = Double()(draw(3, 4, np.float32), 2)
    assert malicious.dtype == np.float32
    assert malicious.shape == (2, 4)


def test_no_malicious_node_makes_no_row() -> None:
    assert attacks.SignFlip()(draw(3, 4), 0).shape == (0, 4)


@pytest.mark.parametrize("honest", [np.ones(3), np.ones((2, 3), dtype=np.int64), [["a"]], np.ones((1, 1, 1))])
def test_wrong_updates(honest: Any) -> None:
    with pytest.raises(ValueError, match=r"give a \(rows, columns\) matrix"):
        attacks.SignFlip()(honest, 1)


@pytest.mark.parametrize("f", [-1, 1.5, True, "2"])
def test_wrong_f(f: Any) -> None:
    with pytest.raises(ValueError, match=r"SignFlip was given f = .*; give a whole number of 0 or more"):
        attacks.SignFlip()(draw(3, 4), f)


@pytest.mark.parametrize("ids", [[1, 2], [1, 1, 2], [1, 2, 3, 4]])
def test_wrong_ids(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="one id a row"):
        attacks.SignFlip()(draw(3, 4), 1, ids=ids)


@pytest.mark.parametrize("tau", [-1, float("nan"), float("inf"), "best", None, True, [1.0]])
@pytest.mark.parametrize("attack", [attacks.FallOfEmpires, attacks.ALittleIsEnough])
def test_wrong_tau(attack: Any, tau: Any) -> None:
    with pytest.raises(ValueError, match=f"{attack.__name__} was given tau"):
        attack(tau)


def test_auto_is_for_a_little_is_enough_only() -> None:
    with pytest.raises(ValueError, match='give a finite number of 0 or more, or "optimal"'):
        attacks.FallOfEmpires("auto")


@pytest.mark.parametrize("factors", [[], [-1.0], "123", [float("inf")], [1, None]])
def test_wrong_factors(factors: Any) -> None:
    with pytest.raises(ValueError, match="was given factors"):
        attacks.FallOfEmpires("optimal", factors=factors)


@pytest.mark.parametrize("ddof", [2, -1, True, 0.5])
def test_wrong_ddof(ddof: Any) -> None:
    with pytest.raises(ValueError, match="was given ddof"):
        attacks.ALittleIsEnough(ddof=ddof)


def test_parameters_are_frozen() -> None:
    with pytest.raises(AttributeError):
        attacks.FallOfEmpires(1.0).tau = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(("imported", "absent"), [("attacks", "torch"), ("*", "torch")])
def test_light_imports(imported: str, absent: str) -> None:
    code = f"import sys; from clients import {imported}; print({absent!r} in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
