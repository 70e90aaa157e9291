from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("kind", ["normal", "hostile", "duplicates", "integers"])
def test_any_trusted_row(kind):
    X = matrix(kind, 9, 12, seed=1, dtype=np.float64)
    for place in range(9):
        expected = references.monna(X, 3, place)
        assert_close(rules.MoNNA(3, reference=f"node {place}")(X, ids=[f"node {k}" for k in range(9)]), expected, X)
        assert_close(rules.MoNNA(3, reference=place)(X), expected, X)


def test_nna_is_monna_around_a_row_that_is_not_averaged():
    X = matrix("normal", 8, 12, seed=2, dtype=np.float64)
    found = rules.NNA(2)(X, root=X[3])
    assert_close(found, rules.MoNNA(2, reference=3)(X), X)


def test_a_reference_that_is_not_there():
    for reference in (9, "0", (1, 2)):
        with pytest.raises(rules.GaveUpError, match="which is none of the ids of the 5 rows; give the id"):
            rules.MoNNA(1, reference=reference)(np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"MoNNA was given reference = \[1\]; give the id"):
        rules.MoNNA(1, reference=[1])
