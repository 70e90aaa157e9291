"""How often nodes were left out lately, and how many of them may be excluded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robust.record.suspicion import Suspicion, make_suspicion, max_excluded


def slow_suspicion(decay, history):
    """The sum that the recursion stands for; None are rounds in which the node did not take part."""
    took_part = [share for share in history if share is not None]
    n = len(took_part)
    return sum((1 - decay) * decay ** (n - 1 - k) * share for k, share in enumerate(took_part))


@given(
    st.floats(0.01, 0.99),
    st.lists(st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=3, max_size=3), max_size=12),
)
def test_the_recursion_is_the_weighted_sum(decay, rounds):
    suspicion = Suspicion(decay)
    for shares in rounds:
        suspicion.update({node: share for node, share in enumerate(shares) if share is not None})
    for node in range(3):
        expected = slow_suspicion(decay, [shares[node] for shares in rounds])
        assert suspicion.values.get(node, 0.0) == pytest.approx(expected, abs=1e-12)
        assert 0.0 <= suspicion.values.get(node, 0.0) <= 1.0


def test_k_rounds_in_a_row_leave_1_minus_decay_to_the_k():
    suspicion = Suspicion(0.9)
    for _ in range(7):
        suspicion.update({3: 1.0})
    assert suspicion.values[3] == pytest.approx(1 - 0.9**7)


def test_the_most_suspicious_come_first_and_ties_go_by_id():
    suspicion = Suspicion(0.5, exclude_after=0.4)
    suspicion.values = {9: 0.7, 2: 0.7, 5: 0.9, 1: 0.4, 7: 0.99}
    assert suspicion.above([1, 2, 5, 9, 100], most=10) == [5, 2, 9]
    assert suspicion.above([9, 2, 5, 1], most=2) == [5, 2]
    assert suspicion.above([9, 2, 5], most=0) == []
    assert Suspicion(0.5).above([9], most=3) == []


def test_the_threshold_1_excludes_nobody_ever():
    suspicion = Suspicion(0.01, exclude_after=1.0)
    for _ in range(100):
        suspicion.update({1: 1.0})
    assert suspicion.above([1], most=1) == []


def test_the_rule_keeps_the_replies_that_it_needs():
    def at_least(least):
        return lambda n: n >= least

    assert max_excluded(10, 10, 3, at_least(7)) == 3
    assert max_excluded(10, 10, 3, at_least(9)) == 1
    assert max_excluded(10, 10, 3, at_least(10)) == 0
    # Others take the places: five of ten are asked in any case, whether that is enough or not.
    assert max_excluded(5, 10, 3, at_least(5)) == 3
    assert max_excluded(5, 10, 3, at_least(6)) == 3
    assert max_excluded(2, 2, 5, at_least(0)) == 2


@pytest.mark.parametrize(
    ("decay", "exclude_after", "message"),
    [
        (1.0, None, r"TrimmedMean was given suspicion = 1.0; give a number in \(0, 1\)"),
        (0, None, r"suspicion = 0; give a number in \(0, 1\)"),
        (True, None, "suspicion = True"),
        ("0.9", None, "suspicion = '0.9'"),
        (float("nan"), None, "suspicion = nan"),
        (0.9, 0.0, r"exclude_after = 0.0; give a number in \(0, 1\]"),
        (0.9, 1.5, "exclude_after = 1.5"),
        (None, 0.5, "exclude_after = 0.5 without suspicion.*give suspicion=0.9"),
    ],
)
def test_wrong_numbers_are_refused_early(decay, exclude_after, message):
    with pytest.raises(ValueError, match=message):
        make_suspicion(decay, exclude_after, "TrimmedMean")
    assert make_suspicion(None, None, "TrimmedMean") is None


def test_a_state_goes_on_where_it_was_taken_and_no_other_is_loaded():
    suspicion, resumed = Suspicion(0.5), Suspicion(0.5)
    suspicion.update({2**64 - 1: 1.0, 3: 0.0})
    resumed.load_state(suspicion.state())
    assert resumed.values == suspicion.values
    with pytest.raises(ValueError, match="'nodes', 'values' and 'rounds'"):
        suspicion.load_state({"nodes": np.zeros(2, np.uint64)})
    suspicion.reset()
    assert suspicion.values == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1])
def test_a_state_that_nobody_can_have_had_is_not_loaded(value):
    suspicion = Suspicion(0.5)
    suspicion.update({1: 1.0, 2: 0.0})
    state = suspicion.state()
    state["values"][1] = value
    with pytest.raises(ValueError, match=r"values in \[0, 1\], but the state holds others for the nodes \[2\]"):
        suspicion.load_state(state)
    assert suspicion.values == {1: 0.5, 2: 0.0}


# ---------------------------------------------------------------- forgiving


def a_round(suspicion, bad):
    """Ask nodes 1 to 3 unless they are excluded; the bad ones are left out. Returns who is excluded."""
    suspicion.forgive()
    excluded = suspicion.above([1, 2, 3], most=2)
    suspicion.count(excluded)
    suspicion.update({node: float(node in bad) for node in (1, 2, 3) if node not in excluded})
    return excluded


@pytest.mark.parametrize("rounds", [1, 3, 20])
def test_an_excluded_node_is_on_trial_after_so_many_rounds(rounds):
    suspicion = Suspicion(0.5, exclude_after=0.7, forgive_after=rounds)
    assert [a_round(suspicion, {2}) for _ in range(2)] == [[], []]
    assert [a_round(suspicion, {2}) for _ in range(rounds)] == [[2]] * rounds
    # Left out once more, it is excluded again, for as long.
    assert a_round(suspicion, {2}) == []
    assert [a_round(suspicion, set()) for _ in range(rounds)] == [[2]] * rounds
    # Used from now on, it stays.
    assert [a_round(suspicion, set()) for _ in range(30)] == [[]] * 30
    assert suspicion.values[2] < 1e-6


def test_none_excludes_for_good():
    suspicion = Suspicion(0.5, exclude_after=0.7, forgive_after=None)
    found = [a_round(suspicion, {2}) for _ in range(100)]
    assert found == [[], []] + [[2]] * 98


def test_a_node_that_is_excluded_no_more_begins_anew():
    suspicion = Suspicion(0.5, exclude_after=0.7, forgive_after=3)
    suspicion.values = {1: 0.8}
    for excluded in ([1], [1], [], [1], [1]):
        suspicion.count(excluded)
    assert suspicion.forgive() == []
    suspicion.count([1])
    assert suspicion.forgive() == [1]
    assert (suspicion.values, suspicion.rounds) == ({1: 0.7}, {})


def test_how_long_is_part_of_the_state():
    suspicion, resumed = (Suspicion(0.5, exclude_after=0.7, forgive_after=4) for _ in range(2))
    for _ in range(4):
        a_round(suspicion, {2})
    assert suspicion.state()["rounds"].tolist() == [0, 2, 0]
    resumed.load_state(suspicion.state())
    assert resumed.rounds == suspicion.rounds == {2: 2}
    expected = [a_round(suspicion, {2}) for _ in range(9)]
    assert [a_round(resumed, {2}) for _ in range(9)] == expected == [[2], [2], [], [2], [2], [2], [2], [], [2]]
    resumed.reset()
    assert resumed.rounds == {}


def test_what_it_says_of_itself():
    assert repr(Suspicion(0.5, 0.7)) == "Suspicion(decay=0.5, exclude_after=0.7)"
    assert repr(Suspicion(0.5, 0.7, forgive_after=9)) == "Suspicion(decay=0.5, exclude_after=0.7, forgive_after=9)"
    assert repr(Suspicion(0.5, forgive_after=3)) == "Suspicion(decay=0.5)"


@pytest.mark.parametrize("rounds", [0, -1, 2.0, True, "20"])
def test_wrong_numbers_of_rounds(rounds):
    with pytest.raises(ValueError, match=r"ARC was given forgive_after = .*; give a whole number of rounds above 0"):
        make_suspicion(0.5, 0.7, "ARC", rounds)
