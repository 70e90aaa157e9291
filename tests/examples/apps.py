"""Copies of the example apps: defended by their diffs, with a node that lies, run without a SuperLink."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from flwr.app import Context, Message, RecordDict

from tests.flower_messages import RunGrid

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NODES = 5
# Node 0 sends its update times -20, whichever of Flower's interfaces the app uses.
MALICE = """
from clients import mods


def lie(message, context, call_next):
    honest = context.node_config["partition-id"] != 0
    return call_next(message, context) if honest else mods.Scaled(-20.0)(message, context, call_next)
"""
NEW = "from flwr.serverapp.strategy import FedAvg", "from flwr_robust import Median as FedAvg"
OLD = "from flwr.server.strategy import FedAvg", "from flwr_robust.legacy import RobustFedAvg as FedAvg"


@dataclass(frozen=True)
class Example:
    """An app of the folder ``examples``.

    Attributes
    ----------
    folder, package : str
        Where it is.
    imports : pair of str
        Its import line, and the one that takes its place where nothing else changes.
    model : str
        Name of the file that the model is saved to.
    score : callable
        From the app's task module and the saved model to the accuracy on test data.
    """

    folder: str
    package: str
    imports: tuple[str, str]
    model: str
    score: Callable[[Any, Path], float]


def score_pytorch(task: Any, path: Path) -> float:
    net = task.Net()
    net.load_state_dict(torch.load(path))
    return float(task.test(net, task.load_data(0, 1, 500)[1])[1])


def score_sklearn(task: Any, path: Path) -> float:
    model = task.create_model()
    task.set_weights(model, load_weights(path))
    _, X, _, y = task.load_data(0, 1)
    return float(model.score(X, y))


def score_legacy(task: Any, path: Path) -> float:
    _, X, _, y = task.load_data(0, 1)
    return float(task.test(load_weights(path), X, y)[1])


def load_weights(path: Path) -> list[np.ndarray]:
    with np.load(path) as saved:
        return list(saved.values())


APPS = {
    "pytorch": Example("pytorch", "pytorchexample", NEW, "model.pt", score_pytorch),
    "sklearn": Example("sklearn", "sklearnexample", NEW, "model.npz", score_sklearn),
    "legacy": Example("legacy-numpy-client", "numpyexample", OLD, "model.npz", score_legacy),
}


# ---------------------------------------------------------------- copies that are changed


def copy(example: Example, target: Path) -> Path:
    """Copy an app, without what a run may have left there."""
    return Path(shutil.copytree(EXAMPLES / example.folder, target, ignore=shutil.ignore_patterns("__pycache__")))


def replace(path: Path, old: str, new: str) -> None:
    """Replace the one place where a text occurs in a file."""
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new))


def change_import(example: Example, app: Path) -> None:
    """Change the app's import line, and nothing else."""
    replace(app / example.package / "server_app.py", *example.imports)


def defend(app: Path) -> None:
    """Apply the example's diff as it stands: without fuzz, and at the lines that it names."""
    command = ["patch", "-p1", "--fuzz=0"]
    done = subprocess.run(
        command, cwd=app, text=True, input=(app / "defend.diff").read_text(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "offset" not in done.stdout, done.stdout


def attack(example: Example, app: Path) -> None:
    """Make one node lie."""
    package = app / example.package
    (package / "malice.py").write_text(MALICE)
    malicious = f"from {example.package}.malice import lie\n\napp = ClientApp(mods=[lie], "
    replace(package / "client_app.py", "app = ClientApp(", malicious)


# ---------------------------------------------------------------- running them in this process


@contextmanager
def imported(example: Example, app: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Yield a function that imports modules of this copy of the app, which are forgotten in the end."""
    sys.path.insert(0, str(app))
    try:
        yield lambda name: importlib.import_module(f"{example.package}.{name}")
    finally:
        sys.path.remove(str(app))
        for name in [name for name in sys.modules if name.partition(".")[0] == example.package]:
            del sys.modules[name]


def accuracy(example: Example, app: Path, model: Path) -> float:
    """Score a saved model."""
    with imported(example, app) as module:
        return example.score(module("task"), model)


def play(example: Example, app: Path, config: dict[str, Any]) -> float:
    """Run a copy of an app with nodes in this process, and return the accuracy of the model that it saves."""
    model = app / example.model
    with imported(example, app) as module:
        server, client = module("server_app").app, module("client_app").app

        def answer(node_id: int, message: Message) -> Message:
            own = {"partition-id": node_id - 2, "num-partitions": NODES}
            return client(message, Context(1, node_id, own, RecordDict(), config))

        grid = RunGrid(list(range(2, 2 + NODES)), answer)
        server(grid, Context(1, 1, {}, RecordDict(), config | {"model-path": str(model)}))
    return accuracy(example, app, model)
