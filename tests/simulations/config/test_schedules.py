"""Learning-rate schedules against the papers' formulas, by hand."""

import pytest

from simulations.config.schedules import parse_schedule


def test_constant_is_one():
    factor = parse_schedule("constant")
    assert [factor(step) for step in (1, 10, 10_000)] == [1.0, 1.0, 1.0]


def test_inverse_follows_nnm_table_3():
    factor = parse_schedule("inverse:50")
    assert [factor(step) for step in (1, 49, 50, 99, 100, 800)] == [1, 1, 1 / 2, 1 / 2, 1 / 3, 1 / 17]


def test_steps_change_after_the_milestone():
    factor = parse_schedule("steps:1500:0.1")
    assert [factor(step) for step in (1, 1500, 1501, 2000)] == [1, 1, 0.1, 0.1]


def test_steps_multiply():
    factor = parse_schedule("steps:10:0.5:20:0.1")
    assert [factor(step) for step in (10, 11, 20, 21)] == pytest.approx([1, 0.5, 0.5, 0.05])


def test_exponential_counts_rounds_and_leaves_the_first_alone():
    schedule = parse_schedule("exponential:0.99")
    assert [schedule(count) for count in (1, 2, 101)] == pytest.approx([1, 0.99, 0.99**100])
    assert schedule.of_round(3, 2) == pytest.approx([0.99**2, 0.99**2])


def test_others_count_the_steps_of_all_rounds():
    schedule = parse_schedule("inverse:2")
    assert schedule.of_round(1, 3) + schedule.of_round(2, 3) == [schedule(step) for step in range(1, 7)]


@pytest.mark.parametrize(
    "spec",
    ["", "cosine", "constant:1", "inverse", "inverse:0", "inverse:x", "steps:10", "steps:20:0.1:10:0.1",
     "steps:0:0.1", "steps:10:0", "steps:10:-1", "steps:10:nan", "steps:10:inf",
     "exponential", "exponential:0", "exponential:1.1", "exponential:0.9:2"],
)  # fmt: skip
def test_what_is_no_schedule_names_the_allowed(spec):
    with pytest.raises(ValueError, match=r'"constant", "inverse:50".*"steps:1500:0.1"') as caught:
        parse_schedule(spec)
    assert repr(spec) in str(caught.value)
