"""Compiled loops over blocks of columns.

Each is compiled once by numba and cached on disk; `warm_up` compiles them all for both dtypes.
"""

from __future__ import annotations

import numpy as np

from flwr_robust.kernels.powers import add_lp_powers, add_lp_powers_to
from flwr_robust.kernels.reading import read_rows, weigh_rows
from flwr_robust.kernels.signs import collect_between, count_signs, layer_statistics, sparsify
from flwr_robust.kernels.sorting import mean_near_median, mean_rows, sort_rows, sorting_network
from flwr_robust.kernels.sums import add_gram, add_rows, add_weighted, mix_sparsely, squared_norms

__all__ = [
    "add_gram",
    "add_lp_powers",
    "add_lp_powers_to",
    "add_rows",
    "add_weighted",
    "collect_between",
    "count_signs",
    "layer_statistics",
    "mean_near_median",
    "mean_rows",
    "mix_sparsely",
    "read_rows",
    "sort_rows",
    "sorting_network",
    "sparsify",
    "squared_norms",
    "warm_up",
    "weigh_rows",
]


def warm_up() -> None:
    """Compile (or load from the cache on disk) every kernel for float32 and float64."""
    from flwr_robust.mixer import Mixer
    from flwr_robust.sources import Part

    for dtype in (np.float32, np.float64):
        block = np.zeros((3, 4), dtype=dtype)
        sort_rows(block, sorting_network(3, 0, 3))
        mean_rows(block, 0, 3, np.empty(4))
        squared_norms(block, np.zeros(3))
        add_gram(block, np.zeros((3, 3)))
        Mixer(np.eye(3))(block, np.empty((3, 4), dtype=dtype))
        add_weighted(block[0], 1.0, np.zeros(4))
        part = Part(list(block), block[0], np.dtype(dtype))
        part.read(0, 4, None, block.copy(), 0)
        part.accumulate(0, 4, np.ones(3), np.zeros(4), None)
        mean_near_median(block, 2, np.empty(4))
        count_signs(block, np.zeros((3, 3), dtype=np.int64))
        counts = np.zeros(3, dtype=np.int64)
        places = np.empty(12, dtype=np.uint16)
        collect_between(block, block[:, 0].copy(), block[:, 0].copy(), counts, counts, block.ravel(), places, counts)
        add_rows(block, np.array([0]), np.ones(1), 0, np.zeros(4))
        sparsify(block, 0, np.zeros(3), np.zeros(3), np.zeros(3, dtype=np.int64))
        layer_statistics(block, (0, 4), 0, 1.0, np.zeros((3, 1)), np.zeros((3, 1, 2), dtype=np.int64))
    wide = np.zeros((3, 4))
    add_lp_powers(wide, 3.0, np.zeros((3, 3)), np.zeros((3, 3)))
    add_lp_powers_to(wide, np.zeros(4), 3.0, np.zeros(3), np.zeros(3))
