"""The functions that passes call on blocks give the same for tensors as for arrays."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine import device as operations
from tests.rules.data import KINDS, matrix

torch = pytest.importorskip("torch")

import flwr_robust.engine.torch_device  # noqa: E402, F401 - registers the functions of tensors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_functions_of_tensors_are_those_of_arrays(rows, kind, dtype):
    block = matrix(kind, rows, 40, seed=8, dtype=dtype)

    def both(name, *arguments, shape):
        outs = np.zeros((2, *shape))
        getattr(operations, name)(block.copy(), *arguments, outs[0])
        tensor = torch.from_numpy(block.copy())
        getattr(operations, name)(tensor, *arguments, outs[1])
        assert torch.equal(tensor, torch.from_numpy(block))
        np.testing.assert_allclose(np.triu(outs[1]), np.triu(outs[0]), rtol=1e-10, atol=1e-13 * np.abs(outs[0]).max())

    both("squared_norms", shape=(rows,))
    both("largest", shape=(rows,))
    both("add_gram", shape=(rows, rows))
    for keep in range(1, rows + 1):
        both("mean_around_median", keep, shape=(40,))
        both("mean_of_sorted", rows - keep, rows, shape=(40,))


@pytest.mark.parametrize("p", [1.0, 3.0, 16.0, np.inf])
def test_lp_powers_over_blocks_of_different_scale(p):
    found, expected = np.zeros((2, 2, 5, 5))
    for scale in (1e-9, 1.0, 1e7, 0.0):
        block = scale * matrix("duplicates", 5, 40, seed=8, dtype=np.float64)
        operations.add_lp_powers(block, p, *expected)
        operations.add_lp_powers(torch.from_numpy(block), p, *found)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
