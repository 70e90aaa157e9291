from __future__ import annotations

import numpy as np
import pytest

from flwr_robust import rules
from tests.rules import references
from tests.rules.data import assert_close, matrix


@pytest.mark.parametrize("options", [(2.0, 0.1), (0.5, 0.0), (1.0, 1.0), (10.0, 0.5)])
@pytest.mark.parametrize("kind", ["normal", "hostile", "duplicates", "integers"])
def test_options(kind, options):
    for n in (3, 8, 9):
        X = matrix(kind, n, 15, seed=1, dtype=np.float64)
        assert_close(rules.ResidualReweighting(*options)(X), references.residual_reweighting(X, *options), X, 1e-8)


def test_values_on_a_line_all_count():
    X = np.arange(8.0)[:, None] * [1.0, 2.0]
    assert np.allclose(rules.ResidualReweighting()(X), X.mean(axis=0))


def test_values_beyond_squares():
    X = matrix("normal", 7, 20, seed=2, dtype=np.float64)
    for scale in (1e-300, 1e300):
        assert_close(rules.ResidualReweighting()(scale * X) / scale, rules.ResidualReweighting()(X), X, 1e-9)
