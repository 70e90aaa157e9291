"""What is in the wheel: the three packages with the data files that they read, and nothing of a working tree."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed: it is in the test extra")

ROOT = Path(__file__).parent.parent
PACKAGES = ("clients", "flwr_robust", "simulations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as opened:
        yield opened


def source(*suffixes):
    """Files of the packages with these endings, as they are named in the wheel."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in suffixes]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_it_holds_the_packages_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == source(".py", ".toml", ".css", ".html", ".md", ".typed", ".pyi")
    assert not any(re.search(r"(^|/)(tests?/|test_|conftest|results/)", name) for name in names), sorted(names)


def test_the_commands_find_their_files(wheel):
    """What modules read beside themselves: experiments, the looks of reports."""
    names = set(wheel.namelist())
    assert {"simulations/reports/templates/page.css", "simulations/reports/templates/report.md"} <= names
    experiments = {name for name in names if name.startswith("simulations/experiments/") and name.endswith(".toml")}
    assert experiments == source(".toml")
    assert len(experiments) > 30


def test_type_checkers_find_types(wheel):
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} | {"flwr_robust/clients/__init__.pyi"} <= names


def test_the_core_needs_flower_and_three_libraries(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    needs = Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist")
    core = {re.split(r"[<>=!~ ;\[]", need)[0] for need in needs if "extra ==" not in need}
    assert core == {"flwr", "numba", "numpy", "scikit-learn"}
