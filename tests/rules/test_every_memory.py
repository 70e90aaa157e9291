"""What rules keep between calls, asked of every rule and chain that keeps something."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules.chains import EVERY, N, call, make, run_on
from tests.rules.data import matrix

BUILDERS = {spec: partial(make, spec) for spec in EVERY if make(spec).state() or make(spec).last.remembers} | {
    "a pool that remembers": lambda seed=1: rules.MixTailor(
        [rules.CenteredClipping(), rules.SparseFed(), rules.Median()], seed=seed
    ),
    "draws in turn": lambda seed=1: rules.chain(
        rules.Bucketing(s=2, seed=seed), rules.MixTailor([rules.DnC(1, subsample=5, seed=seed)], seed=seed)
    ),
}
remembering = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def outputs(rule, seeds):
    return [call(rule, matrix("normal", N, 24, seed=seed)) for seed in seeds]


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@remembering
def test_a_resumed_rule_gives_what_an_unbroken_one_gives(build):
    for seed in (1, None):
        unbroken, resumed = build(seed=seed), build(seed=seed)
        outputs(unbroken, range(4))
        saved = unbroken.state()
        resumed.load_state(saved)
        for value in saved.values():
            value[...] = 0
        np.testing.assert_array_equal(outputs(resumed, range(4, 8)), outputs(unbroken, range(4, 8)))
        assert_same_state(resumed.state(), unbroken.state())


@remembering
def test_reset_starts_again(build):
    rule = build()
    first, start = outputs(rule, range(3)), build().state()
    rule.reset()
    assert_same_state(rule.state(), start)
    np.testing.assert_array_equal(outputs(rule, range(3)), first)


@remembering
def test_states_never_change(build):
    rule = build()
    outputs(rule, [1])
    state = rule.state()
    copies = {name: value.copy() for name, value in state.items()}
    outputs(rule, [2, 3])
    assert_same_state(state, copies)


@remembering
def test_neither_the_rows_nor_the_result_are_the_memory(build):
    rule, twin = build(), build()
    for seed in range(3):
        X = matrix("normal", N, 24, seed=seed)
        found, expected = call(rule, X), call(twin, X.copy())
        np.testing.assert_array_equal(found, expected)
        found[:] = X[:] = 7.0


@remembering
def test_a_call_that_fails_leaves_no_trace(build):
    rule, twin = build(), build()
    bad = matrix("normal", N, 24, seed=9)
    bad[3, 11] = np.nan
    for seed in range(3):
        np.testing.assert_array_equal(outputs(rule, [seed]), outputs(twin, [seed]))
        for X in (bad, bad[:0], np.ones((N, 24), int)):
            with pytest.raises(ValueError, match=r"NaN|no rows|floats"):
                call(rule, X)
        assert_same_state(rule.state(), twin.state())


@remembering
def test_another_chains_state_is_refused(build):
    rule = build()
    outputs(rule, [1])
    state = rule.state()
    others = [state | {"something": np.zeros(3)}, state | {"9.draws": np.zeros(6)}, {"something": np.zeros(3)}]
    others += [{name: value for name, value in state.items() if name != lost} for lost in state]
    others += [
        {name + "s" if name == last else name: np.zeros_like(value) for name, value in state.items()} for last in state
    ]
    for other in others:
        if other.keys() != build().state().keys():
            with pytest.raises(ValueError, match="load the state of the same chain"):
                rule.load_state(other)
            assert_same_state(rule.state(), state)


def test_rules_without_memory_have_no_state_and_refuse_any():
    for spec in EVERY:
        if spec not in BUILDERS:
            rule = make(spec)
            outputs(rule, [1])
            assert rule.state() == {}
            with pytest.raises(ValueError, match=r"was given the state \['centre'\]; load the state of the same chain"):
                rule.load_state({"centre": np.zeros(3)})


# SparseFed changes its memory where it lies as soon as it has a mean.
STORED = [build for name, build in BUILDERS.items() if "sparsefed" not in name and name != "a pool that remembers"]


@pytest.mark.parametrize("build", STORED, ids=lambda build: repr(build()))
def test_a_run_that_nobody_stores_leaves_no_trace(build):
    rule, twin = build(), build()
    for seed in range(4):
        np.testing.assert_array_equal(outputs(rule, [seed]), outputs(twin, [seed]))
        run_on(None, rule, matrix("hostile", N, 24, seed=9))
        assert_same_state(rule.state(), twin.state())
