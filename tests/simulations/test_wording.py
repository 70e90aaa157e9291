"""Words in sentences."""

import pytest

from simulations.wording import count, listing, unknown


def test_nouns_have_their_number():
    assert [count(number, "line") for number in (0, 1, 2, 1200)] == ["0 lines", "1 line", "2 lines", "1,200 lines"]
    assert count(2, "reply", "replies") == "2 replies"


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")]
)
def test_lists_end_with_and(words, text):
    assert listing(words) == text


def test_what_is_unknown_comes_with_what_was_meant_and_what_is_allowed():
    assert unknown("the axis 'sede'", "sede", ["seed", "f"]) == (
        "the axis 'sede' is unknown (did you mean 'seed'?); allowed: seed, f."
    )
    assert unknown("the axis 'x'", "x", []) == "the axis 'x' is unknown; allowed: nothing."
