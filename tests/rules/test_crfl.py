from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close
from tests.rules.rounds import outputs_of, rounds_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_norm_grows_from_call_to_call(dtype):
    rounds = rounds_of(5, dtype=dtype)
    rule = rules.CRFL(max_norm=1.5, growth=2.0, std=0.0)
    expected = references.crfl([(X, model) for _, X, model in rounds], 1.5, 2.0)
    for found, wanted, (_, X, _) in zip(outputs_of(rule, rounds), expected, rounds, strict=True):
        assert_close(found, wanted, X)


def test_noise_until_the_last_round():
    X, model = np.zeros((3, 100_000), np.float32), np.zeros(100_000)
    rule = rules.CRFL(std=0.5, rounds=3, seed=1)
    first, second, last = (rule(X, model=model) for _ in range(3))
    assert first.std() == pytest.approx(0.5, rel=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert not last.any()


def test_huge_models_stay_finite():
    X = np.full((3, 4), 1e200)
    found = rules.CRFL(std=0.0)(X, model=np.full(4, -3e200))
    assert np.isfinite(found).all()
    assert np.allclose(found, 3e200)


@pytest.mark.parametrize(("name", "value"), [("max_norm", 0), ("growth", -1), ("std", -1), ("rounds", 0), ("seed", -1)])
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"CRFL was given {name} = {value}"):
        rules.CRFL(**{name: value})
