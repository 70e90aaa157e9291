"""Every chain, made alike for each run, and how its outcomes are compared."""

from __future__ import annotations

import copy

import numpy as np

from flwr_robust import rules
from flwr_robust.engine.choose import device_for
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.run import run
from tests.rules.data import assert_close, matrix

# Blocks are at least 64 columns wide: these make several.
N, D, F = 11, 1000, 2
LAYERS = [("conv", (20, 4, 3)), ("bias", 7), ("empty", 0), ("fc", (10, 50)), ("rest", D - 747)]
RULES = [name for name, stage in rules.REGISTRY.items() if issubclass(stage, rules.Rule)]
SPECS = [before + name for name in RULES for before in ("", "arc+nnm+", "static-clipping+", "bucketing+")]
LP_RULES = [
    rules.Krum(F, p=3),
    rules.MultiKrum(F, p=float("inf")),
    rules.GeometricMedian(p=1),
    rules.GeometricMedian(p=3, max_iterations=5),
    rules.Bulyan(F, p=4),
    rules.Bulyan(F, selection="median"),
    rules.chain(rules.NNM(F), rules.Bulyan(F, selection="mean", p=3)),
]


def make(spec):
    seeded = {"seed": 1} if any(part in spec for part in ("bucketing", "dnc", "signguard", "mixtailor")) else {}
    clipped = {"max_norm": 20.0} if "static" in spec else {}
    # Buckets of one row: a permutation, behind which every rule has rows enough.
    return rules.from_spec(spec, F, seeded | clipped | ({"bucketing.s": 1} if "bucketing" in spec else {}))


def kinds(spec):
    """Mixed integers tie up to rounding, which is another one on each device: they are for rules alone."""
    return ("normal", "hostile", "near") if "+" in spec else ("normal", "hostile", "near", "integers")


def on(device, updates):
    """Have the updates worked on there; None is by compiled loops."""
    updates.device = device_for(device, "a test")
    return updates


def assert_same(found, expected, X):
    assert found.vector.dtype == expected.vector.dtype
    assert found.passes == expected.passes
    tolerance = 1e-6 if expected.vector.dtype == np.float32 else 1e-11
    assert_close(found.vector, expected.vector, X, tolerance)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-12)
    for one, other in ((found.weights, expected.weights), (found.used, expected.used)):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def compare(rule, device, kind, dtype):
    """Aggregate on a device and by compiled loops; twice where the rule remembers."""
    twin = copy.deepcopy(rule)
    for seed in range(2 if rule.last.name in ("centered-clipping", "sparsefed") else 1):
        X = matrix(kind, N, D, seed=seed, dtype=dtype)
        before = X.copy()
        found = run(rule, on(device, Updates.of_rows(X, LAYERS)), threads=2)
        assert_same(found, run(twin, Updates.of_rows(X, LAYERS), threads=2), X)
        np.testing.assert_array_equal(X, before)
