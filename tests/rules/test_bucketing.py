from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize(
    ("options", "size"),
    [({"s": 3}, 3), ({"f": 4}, 2), ({"f": 8}, 1), ({"f": 1}, 8), ({"f": 0}, 1), ({"f": 0.25}, 2), ({"s": 40}, 17)],
)
def test_every_row_is_in_one_bucket(options, size):
    X = matrix("normal", 17, 12, seed=6)
    expected = references.bucketing(X, size, seed=1)
    found = rules.Bucketing(**options, seed=1)(X)
    assert len(found) == -(-17 // size)
    assert_close(found, expected, X)


def test_each_call_draws_anew():
    X = matrix("normal", 9, 5, seed=7)
    stage = rules.Bucketing(s=2, seed=3)
    first = stage(X)
    assert not np.array_equal(first, stage(X))
    assert np.array_equal(first, rules.Bucketing(s=2, seed=3)(X))
    assert not np.array_equal(rules.Bucketing(s=2)(X), rules.Bucketing(s=2)(X))


def test_f_stays_behind_it_while_rows_shrink():
    chain = rules.chain(rules.Bucketing(s=2, seed=0), rules.TrimmedMean(4))
    with pytest.raises(ValueError, match=r"n = 8 rows with f = 4"):
        chain(np.ones((16, 3)))
    assert chain.min_rows == 17
    assert rules.chain(rules.Bucketing(s=2), rules.Krum(0.25)).min_rows == 1


def test_wrong_arguments():
    with pytest.raises(ValueError, match="s = 0; give None or a whole number above 0"):
        rules.Bucketing(s=0)
    with pytest.raises(ValueError, match="seed = -1; give None or a whole number of 0 or more"):
        rules.Bucketing(seed=-1)
