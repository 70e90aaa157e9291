"""The file that a run writes while it goes on: a JSON line for its parameters, for each round, and for its end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from simulations.config.run_config import RunConfig
from simulations.run.results import FINAL_SUCCESS, SUCCESS, reports_path

PACKAGES = ("flwr", "torch", "numpy", "flwr-robust")


def result_path(config: RunConfig, num_nodes: int) -> Path:
    """Return where the results of a run with this number of nodes go."""
    return Path(config.out_dir).expanduser() / f"{config.run_name(num_nodes=num_nodes)}.jsonl"


class RunRecorder:
    """Write a run's parameters, rounds and end, each line at once.

    Numbers that JSON cannot hold (a loss that is infinite or not a number) are written as null.
    """

    def __init__(self, config: RunConfig, num_nodes: int, partition_of: Mapping[int, int] | None = None) -> None:
        self.path = result_path(config, num_nodes)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.reports_path = reports_path(self.path)
        self.reports_path.unlink(missing_ok=True)  # strategies append to it
        self._started = self._round_started = time.monotonic()
        self._accuracies: list[float] = []
        self._success: float | None = None
        self._train_metrics: dict[str, Any] = {}
        self._file: TextIO = self.path.open("w", encoding="utf-8")
        self._write(
            {
                "type": "config",
                "parameters": config.to_run_config(),
                "versions": versions_of(PACKAGES),
                "num_nodes": num_nodes,
                "malicious": list(range(num_nodes - config.num_malicious, num_nodes)),
                "partition_of": {str(node): partition for node, partition in (partition_of or {}).items()},
            }
        )

    def train_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Keep the round's train metrics for its line."""
        self._train_metrics = dict(metrics)

    def round(
        self,
        server_round: int,
        accuracy: float | None,
        loss: float | None,
        measures: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a round's line; accuracy and loss are None where the round was not evaluated."""
        now = time.monotonic()
        if accuracy is not None:
            self._accuracies.append(accuracy)
            self._success = (measures or {}).get(SUCCESS)
        line = {
            "type": "round",
            "round": server_round,
            "accuracy": accuracy,
            "loss": loss,
            "seconds": round(now - self._round_started, 4),
        }
        self._write(line | self._train_metrics | dict(measures or {}))
        self._round_started, self._train_metrics = now, {}

    def end(self) -> None:
        """Write the last line and close the file."""
        line = {
            "type": "end",
            "max_accuracy": max(self._accuracies, default=None),
            "final_accuracy": self._accuracies[-1] if self._accuracies else None,
            "wall_s": round(time.monotonic() - self._started, 3),
        }
        self._write(line | ({} if self._success is None else {FINAL_SUCCESS: self._success}))
        self._file.close()

    def fail(self, error: BaseException) -> None:
        """Write why the run ended early and close the file."""
        self._write({"type": "error", "error": f"{type(error).__name__}: {error}"})
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self._file.flush()


def versions_of(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the installed version of each package, None for what is not installed (or runs from a checkout)."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
