from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("keep", ["half", "n-f"])
@pytest.mark.parametrize("kind", ["normal", "hostile", "tiny", "huge"])
def test_both_numbers_of_rows(kind, keep):
    for n in (6, 7):
        X = matrix(kind, n, 30, seed=1, dtype=np.float64)
        assert_close(rules.Aksel(2, keep)(X), references.aksel(X, 2, keep), X)


def test_values_far_beyond_squares():
    X = matrix("normal", 7, 30, seed=2, dtype=np.float64)
    for scale in (1e-250, 1e250):
        assert_close(rules.Aksel(2)(scale * X) / scale, rules.Aksel(2)(X), X, 1e-9)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="Aksel was given keep = 'all'; choose from half, n-f"):
        rules.Aksel(1, keep="all")
