"""Machines on which compiled loops cannot be kept: what they cost is time, and one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import flwr_robust

CALLS = """
import resource, sys
import numpy as np
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from flwr_robust.rules import Krum, Median
X = np.array([[1.0], [2.0], [4.0], [90.0]], np.float32)
print(Median()(X), Krum(1)(X), Krum(1)(X))
"""


def copy_package(folder):
    package, without = folder / "flwr_robust", shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(flwr_robust.__file__).parent, package, ignore=without)
    return package


def run(folder, *arguments, **environment):
    """Run the calls in a new process whose package lies in the folder."""
    kept = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-c", CALLS, *arguments],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def assert_one_sentence(done):
    assert done.stdout.split() == ["[3.]", "[2.]", "[2.]"]
    assert done.stderr.count("Compiled kernels cannot be kept on disk, so this process compiles them anew") == 1
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in done.stderr


def test_where_neither_the_package_nor_the_home_can_be_written(tmp_path):
    # Files where folders would have to be: not even root can write there.
    (copy_package(tmp_path) / "engine" / "kernels" / "__pycache__").write_text("")
    done = run(tmp_path, HOME="/dev/null/home", XDG_CACHE_HOME="/dev/null/home", PYTHONDONTWRITEBYTECODE="1")
    assert_one_sentence(done)
    assert "no locator available" in done.stderr


def test_where_the_disk_is_full(tmp_path):
    copy_package(tmp_path)
    done = run(tmp_path, "2000", NUMBA_CACHE_DIR=str(tmp_path / "cache"), PYTHONDONTWRITEBYTECODE="1")
    assert_one_sentence(done)


def test_where_a_folder_can_be_written_they_are_kept_and_nothing_is_said(tmp_path):
    copy_package(tmp_path)
    done = run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.stdout.split() == ["[3.]", "[2.]", "[2.]"]
    assert done.stderr == ""
    assert any((tmp_path / "cache").rglob("*.nbc"))
