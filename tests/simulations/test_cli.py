"""The console command: its lists, and that they need no simulation packages."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clients import attacks
from flwr_robust import rules
from simulations.cli import app
from simulations.config import catalog
from simulations.experiments.experiment import experiment_names
from tests.record.runs import some_run

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


# ---------------------------------------------------------------- in a process of its own

ROOT = Path(__file__).resolve().parents[2]
SIMULATION = ("torch", "ray", "datasets", "flwr_datasets", "torchvision", "pandas", "jinja2", "seaborn", "pydantic")
BLOCKED = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from flwr_robust.command import main
main()
"""


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], text=True, capture_output=True, check=False, **options)


def blocked(packages, *arguments):
    """Run the command in a process in which some packages cannot be imported."""
    return python("-c", BLOCKED, ",".join(packages), *map(str, arguments))


def test_list_needs_no_simulation_packages():
    result = blocked([name for name in (*SIMULATION, "matplotlib", "sklearn", "PIL") if name != "pydantic"], "list")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "trimmed-mean" in result.stdout


def test_a_deployments_rounds_are_shown_with_matplotlib_alone(tmp_path):
    for report in some_run(1, rounds=3)[0]:
        report.append_to(tmp_path / "report.jsonl")
    result = blocked(SIMULATION, "report", tmp_path / "report.jsonl")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "MultiKrum(f=3)" in result.stdout
    assert (tmp_path / "report-nodes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("packages", "arguments", "message"),
    [
        (
            ["torch", "seaborn"],
            ["demo"],
            "torch cannot be imported, but simulations need it: pip install",
        ),
        (
            ["matplotlib"],
            ["report", "."],
            'pictures need it: pip install "flwr-robust[report]"',
        ),
        (["pandas"], ["report", ROOT / "docs" / "results"], "pandas cannot be imported, but reports of sweeps need it"),
    ],
)
def test_missing_packages_are_named_with_what_to_install(packages, arguments, message):
    result = blocked(packages, *arguments)
    assert result.returncode == 1
    assert message in result.stdout


def test_arguments_and_options_have_their_help():
    """Some versions of click and typer do not go together: see constraints.txt."""
    result = python("-m", "simulations.cli", "sweep", "--help", cwd=ROOT, env={**os.environ, "COLUMNS": "200"})
    assert result.returncode == 0, result.stderr
    assert "A name of 'flwr-robust list experiments', or the path of a .toml file." in result.stdout
    assert "The small version, for two cores and half an hour." in result.stdout


def test_mistakes_are_named_by_the_module_too(tmp_path):
    result = python("-m", "simulations.cli", "sweep", "no-such-experiment", "--dry-run", cwd=ROOT)
    assert result.returncode == 1
    assert "Error: the experiment 'no-such-experiment' is unknown" in result.stdout


def test_the_version_is_that_of_the_package():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"flwr-robust {version('flwr-robust')}\n")


@pytest.fixture
def foreign(tmp_path):
    """Return a folder with packages of the caller's own, which may not be imported, and an environment with it."""
    for package in ("clients", "simulations"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('the package of the caller')\n")
    return {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": os.pathsep.join([".", str(ROOT)])}}


COMMAND = "from flwr_robust.command import main; main()"


def test_the_command_imports_ours_in_a_folder_with_packages_of_the_same_names(foreign):
    result = python("-c", COMMAND, "list", "partitions", **foreign)
    assert result.returncode == 0, result.stderr
    assert "dirichlet" in result.stdout


def test_so_do_the_nodes_of_a_simulation_that_starts_there(foreign):
    """The command, the session's own process, and Ray's workers, which look into the caller's folder first."""
    result = python("-c", COMMAND, "demo", "--rounds", "1", **foreign)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (foreign["cwd"] / "results" / "demo.png").is_file()
