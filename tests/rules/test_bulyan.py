from __future__ import annotations

import flwr.serverapp.strategy as flower
import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.rules.bulyan import SELECTIONS
from flwr_robust.rules.run import run
from tests.rules import references
from tests.rules.data import assert_close, matrix
from tests.rules.flower import aggregate, rounds


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selections(selection):
    for kind in ("normal", "hostile", "tiny", "huge", "near", "zeros"):
        for n, f, d in [(3, 0, 4), (7, 1, 30), (11, 2, 8), (13, 2, 40)]:
            X = matrix(kind, n, d, seed=6, dtype=np.float64)
            assert_close(rules.Bulyan(f, selection)(X), references.bulyan(X, f, selection), X)
    X = matrix("normal", 11, 25, seed=7)
    chained = rules.chain(rules.ARC(2), rules.Bulyan(2, selection))(X)
    assert_close(chained, references.bulyan(references.arc(X, 2), 2, selection), X)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("p", [1, 3, 16])
def test_other_norms(selection, p):
    X = matrix("normal", 11, 12, seed=8)
    assert_close(rules.Bulyan(2, selection, p)(X), references.bulyan(X, 2, selection, p), X)


def test_rows_are_chosen_anew_after_each_choice():
    # Theta = 5 of 7. By Krum with neighbours up to 5 of them the middle goes first, then its neighbours.
    X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [900.0]])
    outcome = run(rules.Bulyan(1), updates_for(X))
    assert outcome.used.tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert outcome.weights is None
    # Around the median of the chosen, 2, the three nearest are 1, 2 and 3.
    assert outcome.vector == 2.0


def test_one_reply_of_infinity_is_named_in_other_norms():
    """Rows were chosen by scores that were no numbers, and the choice ran out of rows."""
    X = matrix("normal", 11, 90, seed=9)
    X[[4, 6], 0] = np.inf
    with pytest.raises(rules.NonFiniteRowsError, match=r"rows \[4, 6\] hold NaN or infinity"):
        rules.Bulyan(2, p=4)(X)


def test_by_multi_krum_it_chooses_and_aggregates_as_flower():
    for X, f in rounds((7, 1), (9, 1), (11, 2), (15, 3)):
        found, chosen = aggregate(flower.Bulyan(num_malicious_nodes=f), X)
        ours = run(rules.Bulyan(f, "multi-krum"), updates_for(X))
        assert np.flatnonzero(ours.used).tolist() == chosen
        np.testing.assert_allclose(ours.vector, found, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.Bulyan(1, selection="best"), "choose from krum, mean, median, geometric-median, multi-krum"),
        (lambda: rules.Bulyan(1, p=0), "Bulyan was given p = 0"),
        (lambda: rules.Bulyan(2)(np.ones((10, 2))), r"n = 10 rows with f = 2, but it needs n >= 4f \+ 3"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
