"""The masking attack by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from tests.clients.attacks.data import draw


def test_two_scales_against_the_mean():
    honest = draw(6, 10)
    mean, usual = honest.mean(axis=0), np.median(np.linalg.norm(honest, axis=1))
    sent = attacks.Masking((50.0, 7.0))(honest, 3)
    unit = -mean / np.linalg.norm(mean)
    np.testing.assert_allclose(sent, [50 * usual * unit, 7 * usual * unit, 7 * usual * unit])
    assert attacks.Masking()(honest, 0).shape == (0, 10)
    assert attacks.Masking()(honest.astype(np.float32), 1).dtype == np.float32


def test_where_nothing_moves():
    np.testing.assert_array_equal(attacks.Masking((5.0, 2.0))(np.zeros((3, 2)), 2), [[5.0, 0.0], [2.0, 0.0]])


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0, 3.0), (0.0, 1.0), (1.0, np.inf), 3.0, "ab", None])
def test_wrong_scales(scales):
    with pytest.raises(ValueError, match="Masking was given scales"):
        attacks.Masking(scales)
