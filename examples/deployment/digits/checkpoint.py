"""The model and what the strategy keeps, on disk after each round: a ServerApp that was killed goes on from there."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands after a round."""

    rounds: int
    model: ArrayRecord
    state: ArrayRecord

    def save(self, path: Path) -> None:
        """Write all three into one file: the old one stays until the new one is complete."""
        values = {"rounds": np.array(self.rounds)}
        for kind, arrays in (("model", self.model), ("state", self.state)):
            values |= {f"{kind}/{name}": array.numpy() for name, array in arrays.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **values)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "Checkpoint":
        """Read what `save` wrote, bit by bit the same."""
        with np.load(path) as values:
            found = {
                kind: ArrayRecord(
                    {name.removeprefix(kind): Array(values[name]) for name in values.files if name.startswith(kind)}
                )
                for kind in ("model/", "state/")
            }
            return Checkpoint(int(values["rounds"]), found["model/"], found["state/"])
