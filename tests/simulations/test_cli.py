"""The console command: its lists, and that they need no simulation packages."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from clients import attacks
from flwr_robust import rules
from simulations.cli import app
from simulations.config import catalog
from simulations.experiments.experiment import experiment_names

NAMES = {
    "rules": rules.REGISTRY,
    "attacks": attacks.REGISTRY,
    "datasets": catalog.DATASETS,
    "partitions": catalog.PARTITIONS,
    "models": catalog.MODELS,
    "experiments": experiment_names(),
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("kind", NAMES)
def test_list_shows_every_name(kind):
    result = CliRunner().invoke(app, ["list", kind])
    assert result.exit_code == 0, result.output
    words = result.output.split()
    assert set(NAMES[kind]) <= set(words)


def test_list_without_a_kind_shows_everything():
    words = set(CliRunner().invoke(app, ["list"]).output.split())
    assert all(set(names) <= words for names in NAMES.values())


def test_unknown_list_is_refused_with_the_allowed():
    result = CliRunner().invoke(app, ["list", "colours"])
    assert result.exit_code == 2
    assert "rules" in result.output
    assert "experiments" in result.output


BLOCKED = """
import sys
for name in ("torch", "ray", "matplotlib", "datasets", "flwr_datasets", "sklearn", "torchvision", "PIL"):
    sys.modules[name] = None
from typer.testing import CliRunner
from simulations.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
print(result.output)
sys.exit(result.exit_code)
"""


def blocked(*arguments):
    """Run the command in a process in which the simulation packages cannot be imported."""
    return subprocess.run([sys.executable, "-c", BLOCKED, *arguments], text=True, capture_output=True, check=False)


def test_list_needs_no_simulation_packages():
    result = blocked("list")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "trimmed-mean" in result.stdout


def test_demo_without_simulation_packages_says_what_to_install(tmp_path):
    result = blocked("demo", "--out", str(tmp_path))
    assert result.returncode == 1
    assert 'pip install "flwr-robust[simulation]"' in result.stdout


def test_report_without_matplotlib_says_what_to_install(tmp_path):
    result = blocked("report", str(tmp_path))
    assert result.returncode == 1
    assert "matplotlib cannot be imported, but pictures need it" in result.stdout
