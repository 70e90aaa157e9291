"""The console command ``flwr-robust``: what it imports is this project's, whatever else the caller's folder holds."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Run the command.

    A Flower project may well have a package ``clients`` or ``simulations`` of its own, in a folder that is on the path
    (PYTHONPATH). Ours come first here, and in the processes that a simulation starts.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import_module("simulations.cli").app()
