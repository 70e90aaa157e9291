"""Gaussian noise, for an update and on top of one."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from tests.clients.attacks.data import draw


def test_random_is_standard_noise_that_knows_no_update():
    made = attacks.Random(std=0.5, seed=3)(np.full((4, 40_000), 7.0, np.float32), 3)
    assert made.dtype == np.float32
    assert abs(made.mean()) < 0.01
    np.testing.assert_allclose(made.std(axis=1), 0.5, atol=0.01)
    correlations = np.corrcoef(made) - np.eye(3)
    assert abs(correlations).max() < 0.03  # each node draws for itself


@pytest.mark.parametrize("own", [True, False])
def test_noise_is_added_to_the_own_update_or_to_the_mean(own):
    honest, mine = draw(4, 40_000), draw(2, 40_000, seed=1, centre=9.0)
    made = attacks.Noise(std=0.25, seed=3)(honest, 2, own=mine if own else None)
    noise = made - (mine if own else honest.mean(axis=0))
    assert abs(noise.mean()) < 0.01
    np.testing.assert_allclose(noise.std(axis=1), 0.25, atol=0.01)
    np.testing.assert_array_equal(attacks.Noise(std=0.0)(honest, 2, own=mine), mine)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.Random(std=-0.1), r"Random was given std = -0.1"),
        (lambda: attacks.Noise(float("nan")), r"Noise was given std = nan"),
        (lambda: attacks.Noise(seed=-1), r"Noise was given seed = -1"),
        (lambda: attacks.Random(seed=True), r"Random was given seed = True"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_gaussian_around_a_number():
    sent = attacks.Gaussian(std=2.0, mean=7.0, seed=1)(draw(3, 20_000), 2)
    assert abs(sent.mean() - 7) < 0.05
    assert abs(sent.std() - 2) < 0.05
    assert (sent[0] != sent[1]).all()
    assert attacks.Gaussian() == attacks.Gaussian(std=200.0, mean=0.0)
    assert attacks.Gaussian(seed=1)(draw(3, 4, np.float32), 1).dtype == np.float32


@pytest.mark.parametrize("wrong", [{"std": -1.0}, {"std": np.inf}, {"mean": np.nan}, {"mean": "x"}, {"seed": 1.5}])
def test_gaussian_wrong_values(wrong):
    with pytest.raises(ValueError, match="Gaussian was given"):
        attacks.Gaussian(**wrong)
