"""What tests of messages and of pictures need."""

import pytest
from flwr.supercore.task_identity import TaskIdentity
from matplotlib.figure import Figure


@pytest.fixture
def task_identity(monkeypatch):
    """Give messages that are made by hand a sender."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def figures(monkeypatch):
    """Keep the figures that are saved."""
    kept = []
    save = Figure.savefig

    def keep(figure, *given, **options):
        kept.append(figure)
        save(figure, *given, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept
