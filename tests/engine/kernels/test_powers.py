from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine.kernels import powers
from tests.rules.data import matrix
from tests.rules.references import lp_norm

SCALES = [1e-9, 1.0, 1e7, 0.0, 1e-3]


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0, 16.0, np.inf])
def test_powers_of_differences_over_blocks_of_different_scale(p):
    blocks = [scale * matrix("duplicates", 6, 40, seed=8, dtype=np.float64) for scale in SCALES]
    whole, centre = np.hstack(blocks[:-1]), np.arange(160.0)
    scales, sums, to_scales, to_sums = np.zeros((5, 5)), np.zeros((5, 5)), np.zeros(5), np.zeros(5)
    for place, block in enumerate(blocks[:-1]):
        powers.add_lp_powers(block[:5], p, scales, sums)
        powers.add_lp_powers_to(block[:5], centre[40 * place : 40 * (place + 1)], p, to_scales, to_sums)
    found = scales if np.isinf(p) else scales * sums ** (1 / p)
    for i in range(5):
        for j in range(5):
            expected = lp_norm(whole[i] - whole[j], p) if i < j else 0.0
            assert found[i, j] == pytest.approx(expected, rel=1e-9)
        found_to = to_scales[i] if np.isinf(p) else to_scales[i] * to_sums[i] ** (1 / p)
        assert found_to == pytest.approx(lp_norm(whole[i] - centre, p), rel=1e-9)


def test_high_powers_neither_overflow_nor_vanish():
    for size in (1e-200, 1e200):
        scales, sums = np.zeros((2, 2)), np.zeros((2, 2))
        powers.add_lp_powers(size * np.array([[1.0, 2.0], [3.0, 1.0]]), 16.0, scales, sums)
        assert scales[0, 1] * sums[0, 1] ** (1 / 16) == pytest.approx(size * (2.0**16 + 1) ** (1 / 16))
