from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.chains import make
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


# ---------------------------------------------------------------- colluders in one bucket

BEHIND = {
    "krum": references.krum,
    "multi-krum": references.multi_krum,
    "geometric-median": lambda X, f: references.geometric_median(X),
    "mda": references.mda,
    "faba": references.faba,
    "nnm+trimmed-mean": lambda X, f: references.trimmed_mean(references.nnm(X, f), f),
    "nnm+geometric-median": lambda X, f: references.geometric_median(references.nnm(X, f)),
    "arc+trimmed-mean": lambda X, f: references.trimmed_mean(references.arc(X, f), f),
    "arc+nnm+krum": lambda X, f: references.krum(references.nnm(references.arc(X, f), f), f),
}


@pytest.mark.parametrize("size", [1e6, 1e12, 1e20])
@pytest.mark.parametrize("before", ["", "static-clipping+"])
@pytest.mark.parametrize("behind", BEHIND)
def test_colluders_who_cancel_in_one_bucket_do_not_hide_what_is_left_of_them(behind, before, size):
    """A and -A vanish from the sum of a bucket, and with them digits from its distances; what they add remains."""
    rng, n, f = np.random.default_rng(1), 14, 2
    order = np.random.default_rng(1).permutation(n)
    for left in (0.0, 1e-3, 1.0, 1e3):
        X = 1e-3 * rng.standard_normal((n, 30))
        X[order[:2]] = size * rng.standard_normal(30) * np.array([[1.0], [-1.0]]) + left * rng.standard_normal(30)
        honest = references.bucketing(X, 2, seed=1)[1:]
        names = before + "bucketing+" + behind
        # A threshold that clips nobody.
        chain = make(names, f, s=2, max_norm=1e30)
        expected = BEHIND[behind](references.bucketing(X, 2, seed=1), f)
        assert_close(chain(X), expected, honest, tolerance=1e-6)
        assert np.linalg.norm(chain(X) - honest.mean(axis=0)) <= 3 * np.linalg.norm(honest - honest.mean(axis=0))
