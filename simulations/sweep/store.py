"""The file of an experiment's finished cells: one JSON line each, safe to be cut off at any time.

A line is written in one piece and is on the disk before the next cell begins, so that a sweep that is killed
at any time loses at most the cells in flight. A cell is known by the parameters that were chosen for it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from simulations.config.run_config import fingerprint
from simulations.experiments.sections import Label
from simulations.sweep.cells import Cell
from simulations.sweep.folder import CELLS, SUPERSEDED
from simulations.sweep.record import Record

NEEDED = {"status", "labels", "parameters", "num_nodes"}


class StoreError(RuntimeError):
    """A folder that a sweep cannot write its cells to."""


class CellStore:
    """The cells of a folder, for one sweep at a time.

    Lines that no longer fit the experiment go to ``superseded.jsonl``; `num_superseded` counts those that were
    moved when the folder was taken. Cells of different labels may be the same run, as a baseline that nobody
    attacks: each has a line. `status` is ``done`` or ``failed``, by fingerprint.
    """

    def __init__(self, folder: Path, cells: Iterable[Cell]) -> None:
        self.path = folder / CELLS
        self.status: dict[str, str] = {}
        self.num_superseded = 0
        self._superseded = folder / SUPERSEDED
        self._lock_path = folder / ".lock"
        self._labels: dict[str, list[dict[str, Label]]] = {}
        for cell in cells:
            self._labels.setdefault(cell.fingerprint, []).append(cell.labels)

    def __enter__(self) -> Self:
        """Take the folder and bring its file in line with the experiment."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock_path.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._tidy()
        except BlockingIOError as error:
            self._lock.close()
            raise StoreError(
                f"another sweep is writing to {self.path.parent}; wait until it ends, or give another --out."
            ) from error
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let the folder go."""
        self._lock.close()

    def add(self, record: Record) -> None:
        """Write the lines of a run to the disk, in one piece, in the place of earlier ones if there are."""
        cell = record["cell"]
        lines = self._of_each_label(record)
        if cell in self.status:
            others = [other for other in read_records(self.path) if other["cell"] != cell]
            self._rewrite([*others, *lines])
        else:
            _write_out(self.path, "ab", _lines(lines))
        self.status[cell] = record["status"]

    def _tidy(self) -> None:
        """Drop half a line at the end, give each cell its present labels, and set aside what was superseded.

        Superseded is a line whose labels are a cell's, but whose parameters are others than the cell's now:
        nobody should average over both.
        """
        latest = {(record["cell"], _key(record["labels"])): record for record in read_records(self.path)}
        current = {_key(labels) for cells in self._labels.values() for labels in cells}
        kept: dict[str, Record] = {}
        others, superseded = [], []
        for (cell, labels), record in latest.items():
            if cell in self._labels:
                kept[cell] = record
            elif labels in current:
                superseded.append(record)
            else:
                others.append(record)
        if superseded:
            _write_out(self._superseded, "ab", _lines(superseded))
        self.num_superseded = len(superseded)
        self.status = {cell: record["status"] for cell, record in kept.items()}
        self._rewrite([*others, *(line for record in kept.values() for line in self._of_each_label(record))])

    def _of_each_label(self, record: Record) -> list[Record]:
        return [{**record, "labels": labels} for labels in self._labels[record["cell"]]]

    def _rewrite(self, records: Iterable[Record]) -> None:
        """Write the file anew such that there is the old one or the new one at any time."""
        content = _lines(records)
        if not self.path.exists() or self.path.read_bytes() == content:
            return
        other = self.path.with_suffix(".new")
        _write_out(other, "wb", content)
        other.replace(self.path)


def read_records(path: Path) -> list[Record]:
    """Return the cells of a file; half a line at its end, left by a sweep that was killed, is none.

    Each has the fingerprint that its parameters have now, whatever the version that wrote it made of them.

    Raises
    ------
    StoreError
        If another line is no cell.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        record = None
        with suppress(ValueError):
            record = json.loads(line)
        if not isinstance(record, dict) or not record.keys() >= NEEDED:
            raise StoreError(f"line {number} of {path} is no cell; remove it, or give another --out.")
        records.append(record | {"cell": fingerprint(record["parameters"], num_nodes=record["num_nodes"])})
    return records


def _write_out(path: Path, mode: str, content: bytes) -> None:
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _key(labels: Mapping[str, object]) -> frozenset[tuple[str, str]]:
    return frozenset((axis, str(label)) for axis, label in labels.items())


def _lines(records: Iterable[Record]) -> bytes:
    return b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
