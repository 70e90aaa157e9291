"""What broken nodes send, as mathematics."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks


def test_formulas():
    honest, own = np.ones((3, 4), np.float32), np.full((2, 4), 3.0, np.float32)
    np.testing.assert_array_equal(attacks.Scaled(-2.0)(honest, 2, own=own), -2 * own)
    np.testing.assert_array_equal(attacks.Scaled(-2.0)(honest, 2), -2 * honest[:2])
    assert np.isnan(attacks.NonFinite()(honest, 2)).all()
    assert np.isneginf(attacks.NonFinite(float("-inf"))(honest, 2)).all()
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    spoilt = attacks.WrongShape().spoil(array)
    np.testing.assert_array_equal(spoilt, [0, 1, 2, 3, 4, 5, 0])
    assert spoilt.dtype == np.float32
    assert len(attacks.Garbage(seed=1).spoil(array)) == 24
    assert attacks.Garbage(seed=1).spoil(array) == attacks.Garbage(seed=1).spoil(array)
    assert attacks.Garbage(seed=1).spoil(array) != attacks.Garbage(seed=2).spoil(array)
    for fault in (attacks.WrongShape(), attacks.Garbage(), attacks.Silent()):
        with pytest.raises(TypeError, match="makes no updates"):
            fault(honest, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.NonFinite(1.0), "NonFinite was given value = 1.0; give NaN, infinity"),
        (lambda: attacks.Scaled(float("inf")), "Scaled was given factor = inf; give a finite number"),
        (lambda: attacks.Silent(-1), "Silent was given seconds = -1"),
        (lambda: attacks.Garbage(seed=-1), "Garbage was given seed = -1"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
