"""Every rule of the registry, alone and behind every pre-aggregation, at the edges: a value or a clear error."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.run import run
from tests.rules.data import matrix

RULES = [name for name, stage in rules.REGISTRY.items() if issubclass(stage, rules.Rule)]
BEFORE = ["", "nnm+", "arc+", "bucketing+", "static-clipping+", "arc+nnm+bucketing+"]
LAYERS = [("a", 1), ("fc", (3, 4)), ("b", 7)]


def make(spec, f):
    seeded = {"seed": 1} if any(part in spec for part in ("bucketing", "dnc", "signguard", "mixtailor")) else {}
    clipped = {"max_norm": 1.0} if "static" in spec else {}
    buckets = {"bucketing.s": 2} if "bucketing" in spec else {}
    return rules.from_spec(spec, f=f, args=seeded | clipped | buckets)


def accepts(rule, n):
    try:
        rule.require_rows(n)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_or_a_clear_error(name, before, dtype):
    for n in (1, 2, 3, 7, 12, 30):
        for f in (0, 1, (n - 1) // 2):
            rule = make(before + name, f)
            for kind in ("normal", "hostile", "zeros", "tiny", "huge", "near"):
                X = matrix(kind, n, 20, seed=1, dtype=dtype)
                if n < rule.min_rows:
                    with pytest.raises(ValueError, match=r"n = |no rows"):
                        rule(X, layers=LAYERS)
                    break
                if not accepts(rule, n):
                    assert "bucketing" in before  # it may leave too few rows for some larger n as well
                    break
                result = rule(X, layers=LAYERS)
                assert result.dtype == dtype
                assert result.shape == (20,)
                assert np.isfinite(result).all()


@pytest.mark.parametrize("name", RULES)
def test_rows_that_agree(name):
    for value in (0.0, 1.0, -3e7):
        X = np.full((11, 20), value, dtype=np.float32)
        result = make(name, 2)(X, layers=LAYERS)
        # Sparsifying rules keep a part of the coordinates.
        assert np.isin(result, [0.0, np.float32(value)]).all() or np.allclose(result, value, rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_thousand_layers(name):
    X = matrix("normal", 11, 2011, seed=2)
    layers = [("fc", (2, 6)), *((f"l{i}", 2) for i in range(999)), ("last", 1)]
    rule = make(name, 2)
    assert np.isfinite(rule(X, layers=layers)).all()


@pytest.mark.parametrize("name", RULES)
def test_f_0_drops_nobody(name):
    if name in ("mean", "trimmed-mean", "meamed", "mda", "faba", "dnc", "multi-krum"):
        X = matrix("hostile", 6, 20, seed=3, dtype=np.float64)
        assert np.allclose(make(name, 0)(X), X.mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_what_is_told_about_a_rule(name):
    rule = rules.REGISTRY[name]()
    assert rule.source
    assert rule.breakdown
    assert rule.cost
    assert rule.requirement
    assert rule.min_rows >= 1


@pytest.mark.parametrize("name", [name for name in rules.REGISTRY if name != "mixtailor"])
def test_a_call_reads_the_data_as_often_as_is_told(name):
    d = 2**18  # LASA reads a small model once more, instead of a sample
    updates = updates_for(matrix("normal", 11, d, seed=4), [("fc", (4, d // 8)), ("b", d // 2)])
    behind = "" if name in RULES else "+mean"
    passes = run(make(name + behind, 2), updates).passes
    assert passes == int(rules.REGISTRY[name].cost[0]) + (1 if behind else 0)
