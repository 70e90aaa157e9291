"""A sweep without Ray, and the stand-ins for its sessions."""

import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.sweep import lane, run
from tests.simulations.sweep.fakes import EXPERIMENT, Sessions


@pytest.fixture
def sessions(monkeypatch):
    made = Sessions()
    monkeypatch.setattr(lane, "OpenSession", made)
    monkeypatch.setattr(run, "POLL_INTERVAL", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    return made


@pytest.fixture
def sweep(tmp_path, sessions):
    path = tmp_path / "rates.toml"
    path.write_text(EXPERIMENT)

    def start(*words):
        return CliRunner().invoke(app, ["sweep", str(path), "--out", str(tmp_path / "out"), *words])

    start.experiment = path
    start.folder = tmp_path / "out" / "rates"
    start.cells = start.folder / "cells.jsonl"
    return start
