"""The functions of `flwr_robust.kernels` that passes call, on blocks that are torch tensors.

Sums come back to arrays of the CPU at once, on the calling thread's stream: other blocks do not wait for that.
Blocks are left as they are, since they may be views of what a user gave.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Sums = NDArray[np.float64]


def squared_norms(block: torch.Tensor, out: Sums) -> None:
    """See `kernels.squared_norms`."""
    out += _array(block.double().square().sum(dim=1))


def largest(block: torch.Tensor, out: Sums) -> None:
    """See `kernels.largest`."""
    np.maximum(out, _array(block.abs().amax(dim=1)), out=out)


def add_gram(block: torch.Tensor, gram: Sums) -> None:
    """See `kernels.add_gram`; adds what is below the diagonal too."""
    wide = block.double()
    gram[: len(wide), : len(wide)] += _array(wide @ wide.T)


def add_weighted_rows(block: torch.Tensor, weights: Sums, out: Sums) -> None:
    """Add ``weights @ block`` to ``out`` (columns,), in float64."""
    out += _array(torch.from_numpy(weights).to(block.device) @ block.double())


def add_lp_powers(block: torch.Tensor, p: float, scales: Sums, sums: Sums) -> None:
    """See `kernels.add_lp_powers`."""
    wide = block.double()
    for i in range(len(wide) - 1):
        differences = (wide[i + 1 :] - wide[i]).abs()
        before = torch.from_numpy(scales[i, i + 1 :]).to(block.device)
        scale = torch.maximum(before, differences.amax(dim=1))
        if not np.isinf(p):
            safe = torch.where(scale > 0, scale, 1.0)
            sums[i, i + 1 :] *= _array((before / safe) ** p)
            sums[i, i + 1 :] += _array(((differences / safe[:, None]) ** p).sum(dim=1))
        # Last, because on the CPU the scales before are a view of these.
        scales[i, i + 1 :] = _array(scale)


def mean_of_sorted(block: torch.Tensor, first: int, last: int, out: Sums) -> None:
    """See `kernels.mean_of_sorted`."""
    rows = block if last - first == len(block) else block.sort(dim=0).values[first:last]
    # Divided before they are added: a sum of values near the largest float64 would overflow.
    out[:] = _array((rows.double() / (last - first)).sum(dim=0))


def mean_around_median(block: torch.Tensor, keep: int, out: Sums) -> None:
    """See `kernels.mean_around_median`."""
    rows = len(block)
    wide = block.sort(dim=0).values.double()
    median = wide[(rows - 1) // 2] / 2 + wide[rows // 2] / 2
    counts = torch.ones_like(wide, dtype=torch.bool)
    if keep < rows:
        # Whether the first of `keep` values side by side is given up for the next one behind them.
        given_up = wide[keep:] - median < median - wide[:-keep]
        counts[:-keep] &= ~given_up
        counts[keep:] &= given_up
    out[:] = _array(torch.where(counts, wide / keep, 0.0).sum(dim=0))


def store(block: torch.Tensor, out: NDArray[Any]) -> None:
    """See `kernels.store`."""
    out[:] = _array(block)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
