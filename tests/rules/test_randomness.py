from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.rules.randomness import generator_at, position_of


@pytest.mark.parametrize("seed", [0, 7, None])
def test_a_generator_goes_on_where_another_stands(seed):
    drawing = np.random.Generator(np.random.PCG64(seed))
    drawing.integers(10, size=3, dtype=np.uint32)  # keeps half a word for its next draw
    position = position_of(drawing)
    assert (position.shape, position.dtype) == ((6,), np.uint64)
    again = generator_at(position)
    np.testing.assert_array_equal(again.integers(10, size=5, dtype=np.uint32), drawing.integers(10, size=5, dtype="u4"))
    np.testing.assert_array_equal(again.permutation(20), drawing.permutation(20))
    np.testing.assert_array_equal(position_of(again), position_of(drawing))
