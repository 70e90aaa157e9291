"""What a run leaves behind: one file of JSON lines, readable while the run goes on."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from simulations.config import RunConfig

REPORTS = "reports"  # the folder of the strategies' reports, beside the results
LONGEST_LINE = 1 << 16  # bytes; a line with the partitions of a thousand nodes has half as many
PACKAGES = ("flwr", "torch", "numpy", "flwr-robust")


def result_path(config: RunConfig, num_nodes: int) -> Path:
    """Return where the results of a run with so many nodes go."""
    return Path(config.out_dir).expanduser() / f"{config.run_name(num_nodes=num_nodes)}.jsonl"


def reports_path(results: Path) -> Path:
    """Return where the strategy of the run with these results writes its reports, round by round."""
    return results.parent / REPORTS / results.name


def results_of(reports: Path) -> Path | None:
    """Return the results of the run that these reports are of, or None if they are of no such run."""
    results = reports.absolute().parent.parent / reports.name
    return results if reports_path(results) == reports.absolute() and results.exists() else None


class RunRecorder:
    """Write a run's parameters, rounds and end, each line at once.

    Numbers that JSON cannot hold (a loss that is infinite or not a number) are written as null.

    Parameters
    ----------
    config : RunConfig
        The run's parameters.
    num_nodes : int
        Nodes in the federation.
    partition_of : mapping, optional
        The partition id of each node id.
    """

    def __init__(self, config: RunConfig, num_nodes: int, partition_of: Mapping[int, int] | None = None) -> None:
        self.path = result_path(config, num_nodes)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.reports_path = reports_path(self.path)
        self.reports_path.unlink(missing_ok=True)  # strategies append to it
        self._started = self._round_started = time.monotonic()
        self._accuracies: list[float] = []
        self._train_metrics: dict[str, Any] = {}
        self._file: TextIO = self.path.open("w", encoding="utf-8")
        self._write(
            {
                "type": "config",
                "parameters": config.to_run_config(),
                "versions": {name: _version(name) for name in PACKAGES},
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
        measures: Mapping[str, float] | None = None,
    ) -> None:
        """Write a round's line; accuracy and loss are None where the round was not evaluated."""
        now = time.monotonic()
        if accuracy is not None:
            self._accuracies.append(accuracy)
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
        self._write(
            {
                "type": "end",
                "max_accuracy": max(self._accuracies, default=None),
                "final_accuracy": self._accuracies[-1] if self._accuracies else None,
                "wall_s": round(time.monotonic() - self._started, 3),
            }
        )
        self._file.close()

    def fail(self, error: BaseException) -> None:
        """Write why the run ended early and close the file."""
        self._write({"type": "error", "error": f"{type(error).__name__}: {error}"})
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self._file.flush()


@dataclass
class RunResult:
    """A result file, read back; also one that is still being written.

    `malicious` holds partition ids, `partition_of` the partition id of each node id.
    """

    path: Path
    parameters: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    num_nodes: int = 0
    malicious: list[int] = field(default_factory=list)
    partition_of: dict[int, int] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    error: str | None = None

    @property
    def curve(self) -> tuple[list[int], list[float]]:
        """Rounds that were evaluated, and their accuracies."""
        evaluated = [line for line in self.rounds if line["accuracy"] is not None]
        return [line["round"] for line in evaluated], [line["accuracy"] for line in evaluated]


def read_result(path: Path) -> RunResult:
    """Read a result file; a last line that is not complete yet is left out."""
    result = RunResult(path)
    if not path.exists():
        return result
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not text.endswith("\n"):
            break
        line = json.loads(text)
        kind = line.pop("type")
        if kind == "config":
            result.parameters, result.num_nodes = line["parameters"], line["num_nodes"]
            result.versions, result.malicious = line.get("versions", {}), line.get("malicious", [])
            result.partition_of = {int(node): partition for node, partition in line.get("partition_of", {}).items()}
        elif kind == "round":
            result.rounds.append(line)
        elif kind == "end":
            result.end = line
        elif kind == "error":
            result.error = line["error"]
    return result


def last_line(path: Path) -> dict[str, Any]:
    """Return the last complete line of a result file, however long the file is; nothing if there is none."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_LINE))
        *complete, _ = file.read().split(b"\n")
        if complete:
            return dict(json.loads(complete[-1]))
    return {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
