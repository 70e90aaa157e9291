"""What importing the packages imports: nothing in a circle, nothing that a server without extras lacks, nothing slow.

Who may import whom is written in pyproject.toml: `make lint` checks it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

# Modules that are there for torch, and imported where somebody gives a tensor or a device.
NEED_TORCH = {"flwr_robust.engine.torch_device"}
# Draws pictures, and is imported where somebody asks for one.
NEED_MATPLOTLIB = {"flwr_robust.record.fate_plot"}
LAZY = {"sklearn"}
EXTRAS = ["datasets", "flwr_datasets", "matplotlib", "pandas", "ray", "torch", "torchvision"]

WALK = """
import importlib, json, pkgutil, sys

class Wall:
    tried = []

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            self.tried.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

package = importlib.import_module(PACKAGE)
sys.meta_path.insert(0, Wall())
found = {}
for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    before = len(Wall.tried)
    try:
        importlib.import_module(info.name)
    except ModuleNotFoundError as error:
        assert error.name in EXTRAS, error
    found[info.name] = Wall.tried[before:]
print(json.dumps(found))
"""

GRAPH = """
import grimp, json

graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
print(json.dumps({module: sorted(graph.find_modules_directly_imported_by(module)) for module in graph.modules}))
"""


def python(code, **names):
    """Run code in a fresh process, and return what it prints, as JSON."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    done = subprocess.run([sys.executable, "-c", given + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_circle():
    """Of files; an import in a function body, under TYPE_CHECKING, or of a package's own names counts as well."""
    pytest.importorskip("grimp", reason="grimp is not installed: it is in the test extra")
    imported = python(GRAPH, PACKAGES=["flwr_robust", "clients"])
    assert len(imported) > 80
    TopologicalSorter(imported).prepare()  # names the circle where there is one


@pytest.mark.parametrize("package", ["flwr_robust", "clients"])
def test_no_module_asks_for_an_extra(package):
    """Every module is imported where extras cannot be: not even an import that may fail is tried."""
    found = python(WALK, PACKAGE=package, EXTRAS=EXTRAS)
    assert len(found) > 10
    assert {name: tried for name, tried in found.items() if name not in NEED_TORCH | NEED_MATPLOTLIB and tried} == {}
    assert all(found[name] == ["torch"] for name in NEED_TORCH & found.keys())
    assert all(found[name] == ["matplotlib"] for name in NEED_MATPLOTLIB & found.keys())


@pytest.mark.parametrize("package", ["flwr_robust", "flwr_robust.legacy", "clients"])
def test_slow_libraries_wait_until_they_are_used(package):
    loaded = python(
        "import importlib, json, sys\nimportlib.import_module(PACKAGE)\nprint(json.dumps(list(sys.modules)))",
        PACKAGE=package,
    )
    assert package in loaded
    assert set(loaded) & {*LAZY, *EXTRAS} == set()
