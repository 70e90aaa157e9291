"""CenteredClipping, SparseFed, MixTailor, and the state that rules keep between calls."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references as ref
from tests.rules.data import KINDS, assert_close, matrix


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tau", "iterations"), [(None, 1), (None, 4), (0.7, 1), (2.0, 3)])
def test_centered_clipping_over_three_rounds(kind, tau, iterations):
    scale = {"tiny": 1e-20, "huge": 1e15}.get(kind, 1.0)
    rule = rules.CenteredClipping(None if tau is None else tau * scale, iterations)
    centre = np.zeros(17)
    for seed in (1, 2, 3):
        X = matrix(kind, 8, 17, seed=seed, dtype=np.float64)
        centre = ref.centered_clipping(X, centre, rule.tau, iterations)
        assert_close(rule(X), centre, X)


def test_centered_clipping_behind_other_stages_and_after_a_change_of_size():
    X = matrix("normal", 9, 17, seed=4, dtype=np.float64)
    rule = rules.chain(rules.ARC(2), rules.NNM(2), rules.CenteredClipping(tau=1.0))
    mixed = ref.nnm(ref.arc(X, 2), 2)
    first = ref.centered_clipping(mixed, np.zeros(17), 1.0, 1)
    assert_close(rule(X), first, X)
    assert_close(rule(X), ref.centered_clipping(mixed, first, 1.0, 1), X)
    assert_close(rule(X[:, :5]), rules.chain(rules.ARC(2), rules.NNM(2), rules.CenteredClipping(tau=1.0))(X[:, :5]), X)
    rule.reset()
    assert_close(rule(X), first, X)


def sparsefed(rounds, k, max_norm, momentum):
    """The design's words: clip, mean, momentum, error, top-k, the rest waits."""
    d = np.shape(rounds[0])[1]
    u, e, outputs = np.zeros(d), np.zeros(d), []
    for X in rounds:
        norms = np.linalg.norm(np.asarray(X, dtype=np.float64), axis=1)
        u = momentum * u + ref.clip(X, np.median(norms) if max_norm is None else max_norm).mean(axis=0)
        e = e + u
        out = ref.top_k(e, max(1, int(k * d + 1e-9)))
        e = e - out
        outputs.append(out)
    return outputs


@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "integers", "duplicates"])
@pytest.mark.parametrize(("k", "max_norm", "momentum"), [(0.5, None, 0.9), (1.0, None, 0.0), (0.01, 2.0, 0.5)])
def test_sparsefed_over_rounds(kind, k, max_norm, momentum):
    rounds = [matrix(kind, 6, 23, seed=seed, dtype=np.float64) for seed in range(4)]
    rule = rules.SparseFed(k, max_norm, momentum)
    for X, expected in zip(rounds, sparsefed(rounds, k, max_norm, momentum), strict=True):
        assert_close(rule(X), expected, X)


def test_nothing_is_lost_in_sparsefed():
    rule = rules.SparseFed(k=0.2, momentum=0.0)
    X = matrix("normal", 5, 40, seed=9, dtype=np.float64)
    total = sum(rule(X) for _ in range(50))
    kept = rule.state()["error"]
    mean = ref.clip(X, np.median(np.linalg.norm(X, axis=1))).mean(axis=0)
    assert np.allclose(total + kept, 50 * mean)


def test_mixtailor_draws_each_rule_about_equally_often():
    pool = [rules.Median(), rules.Krum(1), rules.TrimmedMean(1), rules.chain(rules.NNM(1), rules.Krum(1))]
    rule = rules.MixTailor(pool, seed=5)
    X = matrix("normal", 5, 3, seed=6)
    drawn = []
    for _ in range(400):
        result = rule(X)
        drawn.append(rule.last_drawn)
        own = next(member for member in pool if repr(member) == rule.last_drawn)
        assert np.array_equal(result, own(X))
    for member in pool:
        # 100 expected, standard deviation 8.7.
        assert 60 <= drawn.count(repr(member)) <= 140
    again = rules.MixTailor(pool, seed=5)
    assert [(again(X), again.last_drawn)[1] for _ in range(20)] == drawn[:20]
    rule.reset()
    assert [(rule(X), rule.last_drawn)[1] for _ in range(20)] == drawn[:20]


def test_mixtailors_default_pool_is_the_papers():
    rule = rules.MixTailor(f=2, seed=1)
    kinds = [type(member).__name__ for member in rule.pool]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        ("Median", "Krum", "GeometricMedian", "Bulyan"), 16
    )
    assert sorted(member.p for member in rule.pool if isinstance(member, rules.Krum)) == list(range(1, 17))
    assert rule.min_rows == 5
    X = matrix("normal", 11, 6, seed=7)
    drawn = set()
    for _ in range(150):
        assert np.isfinite(rule(X)).all()
        drawn.add(rule.last_drawn.partition("(")[0])
    assert drawn == {"Median", "Krum", "GeometricMedian", "Bulyan"}
    for _ in range(40):
        rule(X[:10])
        assert not rule.last_drawn.startswith("Bulyan")


def test_mixtailor_counts_the_rows_behind_bucketing():
    rule = rules.chain(rules.Bucketing(s=2, seed=1), rules.MixTailor(f=2, seed=1))
    X = matrix("normal", 14, 6, seed=7)
    for _ in range(40):
        # 7 rows reach the rule: too few for Bulyan.
        assert np.isfinite(rule(X)).all()
        assert not rule.last.last_drawn.startswith("Bulyan")
    # A fraction is taken of the 20 rows that come in, of which 10 reach the rule.
    pool = rules.MixTailor([rules.Median(), rules.Krum(0.25)])
    with pytest.raises(ValueError, match="n = 10 rows with f = 5"):
        rules.chain(rules.Bucketing(s=2), pool).require_rows(20)


def test_mixtailor_without_a_seed_differs_between_runs():
    X = matrix("normal", 5, 3, seed=8)

    def draws():
        rule = rules.MixTailor(f=1)
        return [(rule(X), rule.last_drawn)[1] for _ in range(12)]

    assert draws() != draws()


def test_mixtailor_in_a_chain_says_what_it_drew():
    from flwr_robust.engine.choose import updates_for
    from flwr_robust.rules.run import run

    pool = [rules.chain(rules.NNM(1), rules.Median())]
    outcome = run(rules.chain(rules.ARC(1), rules.MixTailor(pool)), updates_for(matrix("normal", 5, 8, seed=9)))
    assert outcome.trace.drawn == ["MixTailor: chain(NNM(f=1), Median())"]
    expected = rules.chain(rules.ARC(1), rules.NNM(1), rules.Median())(matrix("normal", 5, 8, seed=9))
    assert np.array_equal(outcome.vector, expected)


REMEMBERING = [
    lambda: rules.CenteredClipping(iterations=2),
    lambda: rules.SparseFed(k=0.3),
    lambda: rules.chain(rules.Bucketing(s=2, seed=3), rules.CenteredClipping()),
    lambda: rules.chain(rules.Bucketing(s=2), rules.DnC(1, subsample=5)),
    lambda: rules.SignGuard(fraction=0.2),
    lambda: rules.MixTailor([rules.CenteredClipping(), rules.SparseFed(), rules.Median()]),
    lambda: rules.chain(rules.ARC(2), rules.MixTailor(f=2)),
]


@pytest.mark.parametrize("make", REMEMBERING)
def test_a_resumed_rule_gives_what_an_unbroken_one_gives(make):
    rounds = [matrix("normal", 9, 12, seed=seed) for seed in range(8)]
    unbroken = make()
    for X in rounds[:4]:
        unbroken(X)
    saved = {name: value.copy() for name, value in unbroken.state().items()}
    resumed = make()
    resumed.load_state(saved)
    for X in rounds[4:]:
        assert np.array_equal(unbroken(X), resumed(X))


@pytest.mark.parametrize("make", REMEMBERING)
def test_state_of_another_chain_is_refused(make):
    with pytest.raises(ValueError, match="load the state of the same chain"):
        make().load_state({"something": np.zeros(3)})


def test_rules_without_state_refuse_any():
    with pytest.raises(ValueError, match=r"Krum\(f=1\) was given the state \['centre'\]"):
        rules.Krum(1).load_state({"centre": np.zeros(3)})


def test_state_is_never_changed_in_place():
    for make in (lambda: rules.CenteredClipping(), lambda: rules.SparseFed()):
        rule = make()
        rule(matrix("normal", 5, 30, seed=1))
        state = rule.state()
        copies = {name: value.copy() for name, value in state.items()}
        rule(matrix("normal", 5, 30, seed=2))
        assert all(np.array_equal(state[name], copies[name]) for name in copies)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.CenteredClipping(tau=-1), "tau = -1; give a finite number above 0"),
        (lambda: rules.CenteredClipping(iterations=0), "iterations = 0; give a whole number above 0"),
        (lambda: rules.SparseFed(k=1.2), r"k = 1.2; give a number in \(0, 1\]"),
        (lambda: rules.SparseFed(momentum=1.0), r"momentum = 1.0; give a number in \[0, 1\)"),
        (lambda: rules.MixTailor(pool=[]), "give one rule or chain or more"),
        (lambda: rules.MixTailor(pool=[rules.NNM(1)]), "give one rule or chain or more"),
        (lambda: rules.MixTailor(pool=rules.Krum(1)), "give one rule or chain or more"),
        (lambda: rules.MixTailor(pool=[rules.Krum(3)])(np.ones((6, 2))), r"Krum\(f=3\) was given n = 6"),
        (lambda: rules.GeometricMedian(p=np.inf), "p = inf; give a finite order"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
