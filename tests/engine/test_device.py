"""The functions that passes call on blocks give the same for tensors as for arrays."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robust.engine import device as operations
from tests.rules.data import KINDS, matrix


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    import flwr_robust.engine.torch_device  # noqa: F401 - registers the functions of tensors

    return torch


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_tensors_are_those_of_arrays(kind, dtype, torch):
    def both(block, name, *arguments, shape):
        outs = np.zeros((2, *shape))
        getattr(operations, name)(block.copy(), *arguments, outs[0])
        tensor = torch.from_numpy(block.copy())
        getattr(operations, name)(tensor, *arguments, outs[1])
        assert torch.equal(tensor, torch.from_numpy(block))
        np.testing.assert_allclose(np.triu(outs[1]), np.triu(outs[0]), rtol=1e-10, atol=1e-13 * np.abs(outs[0]).max())

    for rows in (1, 2, 5, 8):
        block = matrix(kind, rows, 40, seed=8, dtype=dtype)
        both(block, "squared_norms", shape=(rows,))
        both(block, "largest", shape=(rows,))
        both(block, "add_gram", shape=(rows, rows))
        both(block, "store", shape=(rows, 40))
        for keep in range(1, rows + 1):
            both(block, "mean_around_median", keep, shape=(40,))
            both(block, "mean_of_sorted", rows - keep, rows, shape=(40,))


@pytest.mark.parametrize("p", [1.0, 3.0, 16.0, np.inf])
def test_lp_powers_over_blocks_of_different_scale(p, torch):
    found, expected = np.zeros((2, 2, 5, 5))
    for scale in (1e-9, 1.0, 1e7, 0.0):
        block = scale * matrix("duplicates", 5, 40, seed=8, dtype=np.float64)
        operations.add_lp_powers(block, p, *expected)
        operations.add_lp_powers(torch.from_numpy(block), p, *found)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_values_that_are_not_finite_come_through(torch):
    for bad in (np.nan, np.inf):
        block = np.array([[1.0, bad, 2.0], [3.0, 4.0, 5.0]])
        for made in (block, torch.from_numpy(block)):
            squares, largest = np.zeros(2), np.zeros(2)
            operations.squared_norms(made, squares)
            operations.largest(made, largest)
            assert np.isfinite(squares).tolist() == np.isfinite(largest).tolist() == [False, True]
            assert (squares[1], largest[1]) == (50.0, 5.0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("squared_norms", 1),
        ("largest", 1),
        ("add_gram", 1),
        ("add_lp_powers", 3),
        ("mean_of_sorted", 3),
        ("mean_around_median", 2),
        ("store", 1),
    ],
)
def test_what_is_no_block_is_refused(name, arguments):
    with pytest.raises(TypeError, match="blocks are arrays, or tensors of a device of torch's; got list"):
        getattr(operations, name)([[1.0]], *[None] * arguments)
