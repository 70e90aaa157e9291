"""The example apps in this process: as they are, with another import line, attacked, and what their diffs change."""

from __future__ import annotations

import subprocess
import tomllib

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.examples.apps import APPS, EXAMPLES, attack, change_import, copy, defend, play

# Their own tests run them: tests/deployment.
OTHERS = {"deployment"}


@pytest.fixture(autouse=True)
def one_thread():
    """Spare small networks the threads that wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(params=APPS)
def example(request):
    torch.manual_seed(1)
    np.random.seed(1)
    return APPS[request.param]


@pytest.fixture
def app(example, tmp_path):
    return copy(example, tmp_path / "app")


@pytest.fixture
def config(app):
    return tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "with another import line"])
def test_it_learns(example, app, config, changed):
    if changed:
        change_import(example, app)
    assert play(example, app, config) > 0.8


def test_one_node_ruins_it_without_a_defence(example, app, config):
    attack(example, app)
    assert play(example, app, config) < 0.5


def test_the_diff_takes_away_two_lines_and_the_readme_says_so(example, app):
    lines = (app / "defend.diff").read_text().splitlines()
    taken = [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert [line.strip("- ").split()[0] for line in taken] == ["from", "strategy"]
    readme = " ".join((app / "README.md").read_text().split())
    assert "two lines" in readme
    assert example.imports[1] in readme


def test_patch_and_git_make_the_same_of_the_diff(example, app, tmp_path):
    """Git is run as users run it, in a folder of a repository."""
    other = copy(example, tmp_path / "repository" / "app")
    defend(app)
    for command in (["git", "init", "--quiet", ".."], ["git", "apply", "defend.diff"]):
        subprocess.run(command, cwd=other, check=True)
    applied, expected = ((folder / example.package / "server_app.py").read_text() for folder in (other, app))
    assert applied == expected
    assert "flwr_robust" in applied


def test_every_example_is_tested():
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {example.folder for example in APPS.values()} | OTHERS


def test_the_example_without_torch_names_none():
    for path in (EXAMPLES / "sklearn").rglob("*"):
        assert path.suffix not in (".py", ".toml", ".diff") or "torch" not in path.read_text(), path
