from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("options", [{}, {"threshold": 1.5, "share": 0.7}, {"rounds": 2, "threshold": 3.0}])
@pytest.mark.parametrize("kind", ["normal", "integers", "hostile"])
def test_rounds(kind, options):
    rounds = [matrix(kind, 9, 40, seed=seed, dtype=np.float64) for seed in range(4)]
    given = {"rounds_anew" if name == "rounds" else name: value for name, value in options.items()}
    rule = rules.Auror(**options)
    for X, expected in zip(rounds, references.auror(rounds, **given), strict=True):
        assert_close(rule(X), expected, X)


def test_a_minority_in_most_columns_is_out():
    X = np.random.default_rng(1).standard_normal((10, 200)) * 0.1
    X[:3] += 1.0
    assert np.allclose(rules.Auror()(X), X[3:].mean(axis=0))


def test_one_layer():
    X = np.random.default_rng(2).standard_normal((9, 30))
    found = rules.Auror(layer="b")(X, [("a", 10), ("b", 8), ("c", 12)])
    votes = references.auror([X[:, 10:18]])[0]
    kept = [np.allclose(X[list(rows), 10:18].mean(axis=0), votes) for rows in [range(9)]]
    expected = rules.Auror()(X[:, 10:18])
    assert np.allclose(found[10:18], expected)
    assert len(kept) == 1


@pytest.mark.parametrize(("name", "value"), [("share", 0.4), ("share", 1.0), ("threshold", 0), ("rounds", 0)])
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"Auror was given {name} = {value}"):
        rules.Auror(**{name: value})
