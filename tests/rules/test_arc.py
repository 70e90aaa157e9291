from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.run import run


def test_by_hand():
    X = np.array([[0.0], [1.0], [3.0], [100.0]])
    # k = floor(2/4 * 3) = 1: clipped to the second largest norm.
    assert np.array_equal(rules.ARC(1)(X), [[0.0], [1.0], [3.0], [3.0]])
    assert rules.chain(rules.ARC(1), rules.TrimmedMean(1))(X) == 2.0


def test_as_many_rows_are_clipped_as_the_paper_says():
    for n in range(1, 60):
        X = np.arange(1.0, n + 1)[:, None]
        for f in range((n + 1) // 2):
            k = int(Fraction(2 * f, n) * (n - f))
            assert np.allclose(rules.ARC(f)(X), np.minimum(X, n - k), rtol=1e-12)


def test_factors_of_two_clippings_multiply():
    X = updates_for(np.array([[1.0], [-2.0], [4.0], [100.0]]))
    trace = run(rules.chain(rules.ARC(1), rules.StaticClipping(2.0), rules.Mean()), X).trace
    assert trace.clip_factors == pytest.approx([1.0, 1.0, 0.5, 0.02])
    assert trace.threshold == 2.0


def test_behind_bucketing_factors_are_those_of_buckets():
    X = updates_for(np.array([[2.0], [2.0], [2.0], [2.0]]))
    trace = run(
        rules.chain(rules.StaticClipping(1.0), rules.Bucketing(s=2), rules.StaticClipping(0.5), rules.Mean()), X
    )
    assert trace.trace.clip_factors == pytest.approx([0.5, 0.5])
