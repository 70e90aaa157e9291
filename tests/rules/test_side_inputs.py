from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules.side_inputs import name_of
from tests.rules.chains import RULES, make, model_of, root_of
from tests.rules.data import matrix

X = matrix("normal", 7, 9, seed=1)
REQUIRING = [(name, side) for name in RULES for side in make(name).requires]
READING = [*REQUIRING, ("flame", "model")]


def call(rule, **given):
    return rule(X, **({"root": root_of(X), "model": model_of(X)} | given))


def test_which_rules_require_what():
    assert sorted(REQUIRING) == [
        ("crfl", "model"),
        ("cross-round", "model"),
        ("flanders", "model"),
        ("fltrust", "root"),
        ("nna", "root"),
    ]


@pytest.mark.parametrize(("name", "side"), REQUIRING)
def test_a_required_one_that_is_missing_is_named(name, side):
    with pytest.raises(ValueError, match=f"was given no {side}; give {side} = "):
        call(make(name), **{side: None})


@pytest.mark.parametrize(("name", "side"), READING)
def test_one_that_is_wrong_is_named(name, side):
    wrong = [np.ones(8), np.ones((9, 1)), "abc", [1.0, None], np.full(9, np.nan), np.full(9, np.inf), np.full(9, 1e300)]
    for value in wrong:
        rule = make(name)
        before = rule.state()
        with pytest.raises(ValueError, match=f"was given {side} "):
            call(rule, **{side: value})
        assert rule.state().keys() == before.keys()


@pytest.mark.parametrize("name", [name for name in RULES if "ids" in make(name).optional])
def test_ids_that_are_wrong_are_named(name):
    for ids in ([0] * 7, range(6), range(8), ["a", "b", "c", "d", "e", "f", "a"]):
        with pytest.raises(ValueError, match="give one for each row, all different"):
            call(make(name), ids=ids)


def test_all_rules_accept_all_of_them_and_ignore_what_they_do_not_read():
    for name in ("median", "krum", "lasa"):
        found = make(name)(X, ids=[0, 0], root="nonsense", model=np.nan)
        np.testing.assert_array_equal(found, make(name)(X))
    rows = rules.NNM(1)(X, None, ids=[1], root=2, model=3)
    np.testing.assert_array_equal(rows, rules.NNM(1)(X))


def test_lists_integers_tensors_and_other_floats_are_taken():
    torch = pytest.importorskip("torch")
    expected = rules.NNA(2)(X, root=np.arange(9.0))
    for root in (list(range(9)), np.arange(9), np.arange(9, dtype=np.float16), torch.arange(9.0, requires_grad=True)):
        np.testing.assert_array_equal(rules.NNA(2)(X, root=root), expected)


def test_names_keep_numbers_and_strings_apart():
    assert [name_of(1), name_of("1"), name_of(np.int64(1)), name_of(np.str_("1"))] == ["1", "'1'", "1", "'1'"]


def test_behind_a_stage_that_mixes_the_ids_are_row_numbers():
    ids = list("abcdefg")
    mixed = rules.chain(rules.NNM(2), rules.MoNNA(2, reference=3))
    np.testing.assert_array_equal(mixed(X, ids=ids), mixed(X))
    with pytest.raises(rules.GaveUpError, match="reference = 'd', which is none of the ids"):
        rules.chain(rules.NNM(2), rules.MoNNA(2, reference="d"))(X, ids=ids)
    clipped = rules.chain(rules.ARC(2), rules.MoNNA(2, reference="d"))
    np.testing.assert_array_equal(clipped(X, ids=ids), rules.chain(rules.ARC(2), rules.MoNNA(2, reference=3))(X))


def test_behind_a_filter_the_ids_are_those_of_the_rows_that_are_left():
    rows = np.vstack([X[:3], X[:1], X[3:]])  # the first and the fourth are alike
    ids = [5, 6, 7, 8, 9, 10, 11, 12]
    chain = rules.chain(rules.SimilarityFilter(), rules.MoNNA(2, reference=9))
    expected = rules.MoNNA(2, reference=9)(np.delete(rows, [0, 3], axis=0), ids=[6, 7, 9, 10, 11, 12])
    np.testing.assert_allclose(chain(rows, ids=ids), expected, rtol=1e-6)
    with pytest.raises(rules.GaveUpError):
        rules.chain(rules.SimilarityFilter(), rules.MoNNA(2, reference=5))(rows, ids=ids)


def test_a_model_of_another_size_starts_a_new_memory():
    for name in (
        "clipped-clustering",
        "cross-round",
        "crfl",
        "flanders",
        "fldetector",
        "foolsgold",
        "three-sigma",
        "auror",
    ):
        options = {"std": 0.0} if name == "crfl" else {}
        rule, fresh = make(name, **options), make(name, **options)
        for seed in range(3):
            rows = matrix("normal", 7, 30, seed=seed)
            rule(rows, model=model_of(rows))
        for _ in range(2):
            np.testing.assert_array_equal(call(rule), call(fresh))
        assert rule.state().keys() == fresh.state().keys()
