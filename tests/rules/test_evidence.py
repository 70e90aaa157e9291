"""What is seen of the rows beside an aggregate: mean coefficients, distances and cosines."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.engine.rows import LEAST_SAMPLE, SAMPLE, nearest_shares, sampled_columns, window_shares
from flwr_robust.rules.run import run

N, D = 11, 300
LAYERS = [("a", 100), ("b", 150), ("c", 50)]
MAKE = {
    "mean": rules.Mean,
    "krum": lambda: rules.Krum(2),
    "multi-krum": lambda: rules.MultiKrum(2),
    "median": rules.Median,
    "trimmed-mean": lambda: rules.TrimmedMean(2),
    "meamed": lambda: rules.MeaMed(2),
    "bulyan": lambda: rules.Bulyan(2),
    "slsgd": lambda: rules.SLSGD(2, alpha=0.5),
    "nnm+median": lambda: rules.chain(rules.NNM(2), rules.Median()),
    "nnm+trimmed-mean": lambda: rules.chain(rules.NNM(2), rules.TrimmedMean(2)),
    "nnm+bulyan": lambda: rules.chain(rules.NNM(2), rules.Bulyan(2)),
    "nnm+krum": lambda: rules.chain(rules.NNM(2), rules.Krum(2)),
    "bucketing+meamed": lambda: rules.chain(rules.Bucketing(s=2, seed=1), rules.MeaMed(1)),
    "bucketing+nnm+trimmed-mean": lambda: rules.chain(rules.Bucketing(s=2, seed=1), rules.NNM(1), rules.TrimmedMean(1)),
    "lasa": lambda: rules.LASA(sparsity=0.0),
}


def updates(n=N, d=D, seed=3):
    X = np.random.default_rng(seed).standard_normal((n, d)) + np.linspace(0, 1, n)[:, None]
    X[0] += 3
    return X


def seen(rule, X, layers=None):
    return run(rule, updates_for(X, layers), evidence=True).evidence


def counted(make, X, layers):
    """Return how much the aggregate moves with each row, in the mean over coordinates: no coefficient is read."""
    eps, before = 1e-7, make()(X, layers)
    moved = [make()(X + eps * (np.arange(len(X)) == i)[:, None], layers) for i in range(len(X))]
    return np.array([(after - before).mean() / eps for after in moved])


# NNM makes rows equal, and which of two equally near ones Bulyan takes then, any small step decides.
COUNTED = [(name, n) for name in MAKE for n in (11, 12) if (name, n) != ("nnm+bulyan", 12)]


@pytest.mark.parametrize(("name", "n"), COUNTED)
def test_weights_are_those_that_a_brute_force_count_finds(name, n):
    make, X = MAKE[name], updates(n)
    found = seen(make(), X, LAYERS)
    assert found.exact
    assert found.weights == pytest.approx(counted(make, X, LAYERS), abs=1e-6)
    assert found.weights.sum() == pytest.approx(0.5 if name == "slsgd" else 1.0)


@pytest.mark.parametrize("last", [rules.TrimmedMean(2), rules.Krum(2), rules.Bulyan(2)], ids=repr)
def test_clip_factors_are_apart(last):
    X = updates()
    X[:2] *= 30
    clipped = rules.ARC(2)(X)
    chain = rules.chain(rules.ARC(2), rules.NNM(2), last)
    expected = seen(rules.chain(rules.NNM(2), last), clipped).weights
    assert seen(chain, X).weights == pytest.approx(expected, abs=1e-12)
    assert expected.sum() == pytest.approx(1.0)


def test_a_sample_stands_for_many_coordinates():
    X = updates(d=10 * SAMPLE)
    X[0] += 3
    found = seen(rules.TrimmedMean(2), X)
    whole = window_shares(X, 2, N - 2)
    assert not found.exact
    assert found.weights == pytest.approx(whole, abs=0.01)
    assert not np.array_equal(found.weights, whole)
    assert np.array_equal(found.weights, seen(rules.TrimmedMean(2), X).weights)
    assert seen(rules.Krum(2), X).exact


def test_the_sample_is_spread_in_proportion():
    for d, count in ((10**8, SAMPLE), (10**5, LEAST_SAMPLE)):
        columns = sampled_columns(d)
        assert len(np.unique(columns)) == count
        assert np.all(np.diff(columns) > 0)
        assert np.histogram(columns, [0, d // 10, d])[0] == pytest.approx([0.1 * count, 0.9 * count], abs=1)
        assert columns[-1] < d
    assert np.array_equal(sampled_columns(7), np.arange(7))


def test_equal_values_share():
    block = np.array([[1.0], [1.0], [1.0], [2.0], [9.0]])
    assert window_shares(block, 1, 4) == pytest.approx([2 / 9, 2 / 9, 2 / 9, 1 / 3, 0])
    assert window_shares(np.ones((4, 2)), 1, 3) == pytest.approx([0.25] * 4)
    # Of two values that are equally near to the median the lower one counts.
    assert nearest_shares(np.array([[0.0], [1.0], [2.0]]), 2) == pytest.approx([0.5, 0.5, 0.0])


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_distances_and_cosines(scale):
    X = updates()
    rule = rules.TrimmedMean(2)
    found, aggregate = seen(rule, X * scale), rule(X)
    far = np.linalg.norm(X - aggregate, axis=1)
    assert found.distances == pytest.approx(far / np.median(far))
    cosines = X @ aggregate / np.linalg.norm(X, axis=1) / np.linalg.norm(aggregate)
    assert found.cosines == pytest.approx(cosines)


def test_rows_of_zeros_have_no_cosine():
    found = seen(rules.Mean(), np.zeros((3, 4)))
    assert np.isnan(found.cosines).all()
    assert found.distances.tolist() == [0, 0, 0]


def test_rules_that_say_nothing_have_no_weights():
    class Own(rules.CoordinateRule):
        def reduce(self, block, f, out):
            out[:] = block[0]

    assert seen(Own(), updates()).weights is None
    assert run(rules.Median(), updates_for(updates())).evidence is None
