from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close
from tests.rules.rounds import outputs_of, rounds_of


@pytest.mark.parametrize("options", [{}, {"bound": 0.9, "sigmas": 0.0}, {"bound": -1.0}, {"bound": 1.0, "sigmas": 2.0}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounds_with_nodes_that_come_and_go(options, dtype):
    rounds = rounds_of(6, dtype=dtype)
    for number, (_, X, _) in enumerate(rounds):
        X[number % 3] *= 5.0
    expected = references.cross_round(rounds, **options)
    for found, wanted, (_, X, _) in zip(outputs_of(rules.CrossRound(**options), rounds), expected, rounds, strict=True):
        assert_close(found, wanted, X)


def test_rows_that_are_far_but_not_suspicious_stay():
    model = np.array([10.0, 0.0])
    X = np.array([[0.0, 0.1], [0.0, -0.1], [0.1, 0.0], [0.0, 9.0]])
    rule = rules.CrossRound()
    assert np.allclose(rule(X, model=model), X[:3].mean(axis=0))
    # 10 and 9 make an angle whose cosine is above a half.
    assert np.allclose(rule(X, model=model), X.mean(axis=0))


@pytest.mark.parametrize(("name", "value"), [("bound", 1.1), ("bound", -1.1), ("sigmas", -1)])
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"CrossRound was given {name} = {value}"):
        rules.CrossRound(**{name: value})
