"""The results of a run, read back from its file of JSON lines, also while the run goes on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPORTS = "reports"  # the folder of the strategies' reports, beside the results
# Keys of a backdoor's success, in the lines of rounds and in the last one.
SUCCESS, FINAL_SUCCESS = "attack_success_rate", "final_attack_success_rate"
LONGEST_LINE = 1 << 16  # bytes; a line with the partitions of a thousand nodes has half as many


def reports_path(results: Path) -> Path:
    """Return where the strategy of the run with these results writes its reports, round by round."""
    return results.parent / REPORTS / results.name


def results_of(reports: Path) -> Path | None:
    """Return the results of the run that these reports are of, or None if they are of no such run."""
    results = reports.absolute().parent.parent / reports.name
    return results if reports_path(results) == reports.absolute() and results.exists() else None


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


def holds_results(path: Path) -> bool:
    """Return whether a file's first line is that of a run's results."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    values = json.loads(first) if first.endswith("\n") else {}
    return isinstance(values, dict) and values.get("type") == "config"


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
