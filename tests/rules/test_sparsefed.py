from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.rules import sparsefed
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge", "integers", "duplicates"])
@pytest.mark.parametrize(("k", "max_norm", "momentum"), [(0.5, None, 0.9), (1.0, None, 0.0), (0.01, 2.0, 0.5)])
def test_four_rounds(kind, k, max_norm, momentum):
    rounds = [matrix(kind, 6, 23, seed=seed, dtype=np.float64) for seed in range(4)]
    rule = rules.SparseFed(k, max_norm, momentum)
    for X, expected in zip(rounds, references.sparsefed(rounds, k, max_norm, momentum), strict=True):
        assert_close(rule(X), expected, X)


def test_nothing_is_lost():
    rule = rules.SparseFed(k=0.2, momentum=0.0)
    X = matrix("normal", 5, 40, seed=9, dtype=np.float64)
    total = sum(rule(X) for _ in range(50))
    mean = references.clip(X, np.median(np.linalg.norm(X, axis=1))).mean(axis=0)
    assert np.allclose(total + rule.state()["error"], 50 * mean)


def test_a_model_of_another_size_starts_again():
    rule = rules.SparseFed()
    rule(np.ones((3, 8)))
    assert np.array_equal(rule(np.full((3, 4), 2.0)), [2.0, 2.0, 0.0, 0.0])


def test_of_equal_values_the_first_stay(monkeypatch):
    monkeypatch.setattr(sparsefed, "CHUNK", 3)
    row = np.array([1.0, -2.0, 2.0, 1.0, 2.0, -2.0, 2.0, 0.0])
    for k, kept in [(0.25, 2), (0.5, 4), (0.625, 5), (0.75, 6), (1.0, 8)]:
        found = rules.SparseFed(k)(row[None])
        assert np.array_equal(found, references.top_k(row, kept))


def test_memories_stay_within_the_dtype():
    rule = rules.SparseFed(k=0.5, momentum=0.9)
    X = np.full((3, 4), 3e38, np.float32)
    for _ in range(8):
        assert np.isfinite(rule(X)).all()
        assert all(np.isfinite(value).all() for value in rule.state().values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 1.2}, r"k = 1.2; give a number in \(0, 1\]"),
        ({"k": 0}, r"k = 0; give a number in \(0, 1\]"),
        ({"momentum": 1.0}, r"momentum = 1.0; give a number in \[0, 1\)"),
        ({"max_norm": 0}, "max_norm = 0; give a finite number above 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        rules.SparseFed(**options)
