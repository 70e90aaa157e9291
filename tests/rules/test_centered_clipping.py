from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import KINDS, assert_close, matrix


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tau", "iterations"), [(None, 1), (None, 4), (0.7, 1), (2.0, 3)])
def test_three_rounds(kind, tau, iterations):
    scale = {"tiny": 1e-20, "huge": 1e15}.get(kind, 1.0)
    rule = rules.CenteredClipping(None if tau is None else tau * scale, iterations)
    centre = np.zeros(17)
    for seed in (1, 2, 3):
        X = matrix(kind, 8, 17, seed=seed, dtype=np.float64)
        centre = references.centered_clipping(X, centre, rule.tau, iterations)
        assert_close(rule(X), centre, X)


def test_behind_other_stages_and_after_a_change_of_size():
    X = matrix("normal", 9, 17, seed=4, dtype=np.float64)
    rule = rules.chain(rules.ARC(2), rules.NNM(2), rules.CenteredClipping(tau=1.0))
    mixed = references.nnm(references.arc(X, 2), 2)
    first = references.centered_clipping(mixed, np.zeros(17), 1.0, 1)
    assert_close(rule(X), first, X)
    assert_close(rule(X), references.centered_clipping(mixed, first, 1.0, 1), X)
    assert_close(rule(X[:, :5]), rules.chain(rules.ARC(2), rules.NNM(2), rules.CenteredClipping(tau=1.0))(X[:, :5]), X)
    rule.reset()
    assert_close(rule(X), first, X)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="tau = -1; give a finite number above 0"):
        rules.CenteredClipping(tau=-1)
    with pytest.raises(ValueError, match="iterations = 0; give a whole number above 0"):
        rules.CenteredClipping(iterations=0)
