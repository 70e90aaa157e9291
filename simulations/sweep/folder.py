"""What a sweep writes into its folder, and a report reads there."""

from __future__ import annotations

from pathlib import Path

# A line for each finished cell; lines that no longer fit the experiment; a copy of the experiment's file.
CELLS, SUPERSEDED, EXPERIMENT = "cells.jsonl", "superseded.jsonl", "experiment.toml"


def find_sweeps(folder: Path) -> list[Path]:
    """Return the sweeps' folders at or below a folder."""
    return sorted(path.parent for path in folder.rglob(CELLS) if (path.parent / EXPERIMENT).is_file())
