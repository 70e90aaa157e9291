"""Edge inputs: samples that the nodes of a run hardly have, for training and, held out, for testing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulations.config.backdoors import EdgeSource
from simulations.config.run_config import RunConfig
from simulations.data.inputs import Inputs
from simulations.data.load import load_split

MOST = 1000  # more than a node poisons in most runs; all are kept in memory
NO_CLASS = -1  # the label of what belongs to none of the run's classes


def edge_inputs(config: RunConfig, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a run's edge inputs as a model is given them, and their true labels.

    Parameters
    ----------
    config : RunConfig
        Of an attack with edge inputs.
    split : {"train", "test"}
        What malicious nodes train on, or what is held out.
    """
    return _read(config.edge_source(), split, config.dataset, config.normalisation, config.data_dir)


@lru_cache(maxsize=4)
def _read(
    source: EdgeSource, split: str, dataset: str, normalisation: str, data_dir: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    data = load_split(source.dataset, split, data_dir)
    if source.label is None:
        stored = data.inputs[:MOST]
        labels = np.full(len(stored), NO_CLASS, dtype=np.int64)
    else:
        chosen = np.flatnonzero(data.labels == source.label)[:MOST]
        stored, labels = np.rot90(data.inputs[chosen], axes=(-2, -1)), data.labels[chosen]
    return Inputs.of(dataset, normalisation, "none").plain(stored), labels
