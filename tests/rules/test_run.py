"""How a chain runs: what comes out of it, how often it reads the data, and when it remembers."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.engine.passes import BadRowsError, NonFiniteRowsError
from flwr_robust.rules.run import (
    Aggregate,
    BadRows,
    Skipped,
    TooFewRowsError,
    Trace,
    mix,
    outcome_of,
    require_rows,
    run,
)
from tests.rules.chains import ADDS_TO_THE_ROWS, EVERY, N, is_any, make, run_on
from tests.rules.data import assert_close, matrix


def test_an_aggregate_holds_norms_weights_clipping_and_passes():
    X = np.array([[3.0, 4.0], [0.0, 1.0], [0.0, -2.0], [60.0, 80.0]])
    found = run(rules.chain(rules.ARC(1), rules.Mean()), updates_for(X))
    assert found.norms.tolist() == [5.0, 1.0, 2.0, 100.0]
    # The three shortest stay, the longest is clipped to 5.
    assert found.weights == pytest.approx([0.25, 0.25, 0.25, 0.0125])
    assert found.vector == pytest.approx([1.5, 1.75])
    assert found.trace.clip_factors == pytest.approx([1.0, 1.0, 1.0, 0.05])
    assert (found.trace.threshold, found.trace.drawn, found.trace.rule_drawn) == (5.0, [], None)
    assert (found.passes, found.used) == (2, None)


@pytest.mark.parametrize("spec", EVERY)
def test_norms_and_weights_are_those_of_the_rows(spec):
    X = matrix("hostile", N, 130, seed=1, dtype=np.float64)
    found = run_on(None, make(spec), X)
    assert found.norms == pytest.approx(np.linalg.norm(X, axis=1))
    if found.weights is not None and not is_any(spec, ADDS_TO_THE_ROWS):
        assert_close(found.weights @ X, found.vector, X)


def test_what_was_drawn_is_traced():
    chain = rules.chain(rules.Bucketing(s=4, seed=1), rules.MixTailor([rules.Median()], seed=1))
    order = np.random.default_rng(1).permutation(9).tolist()
    trace = run(chain, updates_for(np.ones((9, 2)))).trace
    assert sorted(trace.drawn) == [f"Bucketing: {order} in buckets of 4", "MixTailor: Median()"]


def test_passes():
    X = updates_for(matrix("normal", 17, 3000, seed=10))
    assert {run(rule, X).passes for rule in (rules.Mean(), rules.Median(), rules.TrimmedMean(4))} == {1}
    assert run(rules.chain(rules.Bucketing(f=4), rules.TrimmedMean(4)), X).passes == 1
    long = rules.chain(rules.ARC(4), rules.NNM(4), rules.StaticClipping(1.0), rules.NNM(4), rules.ARC(4))
    for last in (rules.Krum(4), rules.TrimmedMean(4), rules.GeometricMedian()):
        assert run(rules.chain(long, last), X).passes == 2


def test_pre_aggregations_alone_give_rows_norms_and_clipping():
    X = matrix("normal", 7, 90, seed=3, dtype=np.float64)
    found = mix([rules.ARC(2), rules.NNM(2)], updates_for(X))
    assert found.norms == pytest.approx(np.linalg.norm(X, axis=1))
    np.testing.assert_allclose(found.rows, rules.NNM(2)(rules.ARC(2)(X)))
    assert (found.trace.clip_factors < 1).sum() == 2 * 2 * 5 // 7


# ---------------------------------------------------------------- what rows can do to a call


def test_what_rows_do_to_a_call_comes_back_as_a_value():
    def gives_up():
        raise rules.GaveUpError("too long")

    def beyond():
        raise BadRowsError([2], "the arrays hold values beyond float32")

    X = np.ones((4, 3))
    X[[1, 3], 0] = np.nan
    assert outcome_of(lambda: run(rules.Mean(), updates_for(X))) == BadRows([1, 3], "the arrays hold NaN or infinity")
    assert outcome_of(beyond) == BadRows([2], "the arrays hold values beyond float32")
    assert outcome_of(gives_up) == Skipped("too long")
    too_few = outcome_of(lambda: run(rules.Krum(2), updates_for(X)))
    assert isinstance(too_few, Skipped)
    assert "Krum(f=2) was given n = 4 rows with f = 2" in too_few.reason
    assert outcome_of(lambda: 5) == 5
    assert isinstance(outcome_of(lambda: run(rules.Krum(1), updates_for(X[::2]))), Skipped)
    assert isinstance(outcome_of(lambda: run(rules.Mean(), updates_for(X[::2]))), Aggregate)


def test_other_errors_are_nobodys_fault_but_the_codes():
    with pytest.raises(ValueError, match="no 2-D layer"):
        outcome_of(lambda: run(rules.LFighter(), updates_for(np.ones((4, 3)))))


@pytest.mark.parametrize("spec", ["mean", "median", "krum", "arc+median", "lasa", "dnc", "bulyan p=3", "lfighter"])
def test_rows_beyond_float32_are_bad_where_that_counts(spec):
    X = matrix("normal", N, 20, seed=1, dtype=np.float64)
    X[3] *= 3.3e38 / np.linalg.norm(X[3])
    X[8] *= 3.5e38 / np.linalg.norm(X[8])
    layers = [("fc", (2, 10))]
    found = run(make(spec, f=1), updates_for(X[:8], layers), float32_only=True)
    assert found.norms[3] == pytest.approx(3.3e38)
    assert np.isfinite(run(make(spec, f=1), updates_for(X, layers)).vector).all()
    with pytest.raises(BadRowsError, match=r"rows \[8\] hold values beyond float32; leave such rows out") as caught:
        run(make(spec, f=1), updates_for(X, layers), float32_only=True)
    assert (caught.value.rows, caught.value.fault) == ([8], "the arrays hold values beyond float32")


def test_pre_aggregations_alone_find_bad_rows_too():
    X = np.ones((5, 3))
    X[2] = 1e200
    assert np.isfinite(mix([rules.NNM(1)], updates_for(X)).rows).all()
    with pytest.raises(BadRowsError, match=r"rows \[2\] hold values beyond float32"):
        mix([rules.NNM(1)], updates_for(X), float32_only=True)
    X[4] = np.inf
    with pytest.raises(NonFiniteRowsError, match=r"rows \[4\] hold NaN or infinity"):
        mix([rules.Bucketing(s=2)], updates_for(X))
    with pytest.raises(TooFewRowsError, match=r"NNM\(f=3\) was given n = 5"):
        mix([rules.NNM(3)], updates_for(X))


def test_a_fraction_is_taken_of_the_rows_that_come_in():
    require_rows([rules.Bucketing(s=2), rules.Krum(0.2)], 10)
    with pytest.raises(TooFewRowsError, match=r"Krum\(f=0.3\) was given n = 5 rows with f = 3"):
        require_rows([rules.Bucketing(s=2), rules.Krum(0.3)], 10)
    with pytest.raises(TooFewRowsError, match=r"Krum\(f=2\) was given n = 4 rows"):
        require_rows([rules.Krum(2)], 10, rows=4)
    with pytest.raises(TooFewRowsError, match="no rows to aggregate: n = 0"):
        require_rows([], 0)


# ---------------------------------------------------------------- when it remembers


@pytest.mark.parametrize("spec", ["centered-clipping", "sparsefed", "bucketing+mean", "mixtailor", "signguard"])
def test_nothing_is_remembered_before_it_is_stored(spec):
    rule = make(spec)
    X = matrix("normal", N, 30, seed=2)
    before = rule.state()
    first, second = run_on(None, rule, X), run_on(None, rule, X)
    assert rule.state().keys() == before.keys()
    assert all(np.array_equal(rule.state()[name], value) for name, value in before.items())
    np.testing.assert_array_equal(first.vector, second.vector)
    second.trace.store()
    after = rule.state()
    assert after.keys() > before.keys() or any(not np.array_equal(after[name], before[name]) for name in before)


def test_a_generator_goes_on_within_a_call():
    stage, trace = rules.Bucketing(s=2, seed=1), Trace()
    draws = [trace.generator(stage).integers(100) for _ in range(3)]
    assert draws == np.random.default_rng(1).integers(100, size=3).tolist()
    assert Trace().generator(stage).integers(100) == draws[0]
    trace.store()
    assert Trace().generator(stage).integers(100) not in draws[:1]
