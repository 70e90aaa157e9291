from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close
from tests.rules.rounds import outputs_of, rounds_of


@pytest.mark.parametrize(("window", "iterations"), [(2, 1), (3, 20)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounds_with_nodes_that_come_and_go(window, iterations, dtype):
    rounds = rounds_of(6, d=12, dtype=dtype)
    rule = rules.FLANDERS(2, window=window, iterations=iterations, alpha=0.5, beta=2.0)
    expected = references.flanders(rounds, 2, np.arange(12), window, iterations, 0.5, 2.0)
    for found, wanted, (_, X, _) in zip(outputs_of(rule, rounds), expected, rounds, strict=True):
        assert_close(found, wanted, X)


def test_a_sample_is_drawn_once():
    rounds, rule = rounds_of(5, d=40), rules.FLANDERS(2, window=2, subsample=9, iterations=5, seed=4)
    found = outputs_of(rule, rounds)
    columns = rule.state()["sampled"]
    assert len(np.unique(columns)) == 9
    for one, other in zip(found, references.flanders(rounds, 2, columns, 2, 5), strict=True):
        assert np.allclose(one, other)
    rule.reset()
    outputs_of(rule, rounds)
    assert np.array_equal(rule.state()["sampled"], columns)


@pytest.mark.parametrize(
    ("name", "value"), [("window", 1), ("subsample", 0), ("iterations", 0), ("alpha", 0), ("beta", 0)]
)
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"FLANDERS was given {name} = {value}"):
        rules.FLANDERS(**{name: value})
