from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules


def test_by_hand():
    X = np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]])
    assert np.allclose(rules.StaticClipping(2.0)(X), [[1.2, 1.6], [0.6, 0.8], [0.0, 0.0]])


@pytest.mark.parametrize(
    "last", [rules.Krum(2), rules.GeometricMedian(), rules.Median(), rules.TrimmedMean(2)], ids=repr
)
def test_no_fixed_threshold_keeps_a_rule_robust(last):
    """ARC, Lemma 3.1: honest rows that agree, at twice the threshold, come out shortened; with ARC they do not."""
    for threshold in (1e-3, 1.0, 50.0):
        honest = np.tile(2 * threshold * np.array([0.6, 0.8]), (5, 1))
        X = np.vstack([honest, np.zeros((2, 2))])
        # The honest variance is zero, so a robust rule has no error at all, whatever its kappa.
        assert np.linalg.norm(rules.chain(rules.StaticClipping(threshold), last)(X) - honest[0]) >= 0.9 * threshold
        assert np.allclose(rules.chain(rules.ARC(2), last)(X), honest[0], rtol=1e-12)


def test_wrong_arguments():
    for given in (float("inf"), 0, -1.0, "1"):
        with pytest.raises(ValueError, match=f"max_norm = {given!r}; give a finite number above 0"):
            rules.StaticClipping(given)
