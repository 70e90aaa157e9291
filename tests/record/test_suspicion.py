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
    with pytest.raises(ValueError, match="'nodes' and 'values'"):
        suspicion.load_state({"nodes": np.zeros(2, np.uint64)})
    suspicion.reset()
    assert suspicion.values == {}
