"""The package under both of its names, beside other people's packages of the same name."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import clients.attacks.shifts
import flwr_robust.clients
from clients import mods
from clients.data import poisoned_labels


def test_both_names_give_the_same_modules():
    shifts = flwr_robust.clients.attacks.shifts
    assert clients is flwr_robust.clients
    assert clients.attacks.shifts is shifts
    assert shifts.__spec__.name == shifts.__name__ == "flwr_robust.clients.attacks.shifts"
    # One module holds what is poisoned: a mod of one name and a data set of the other have to meet there.
    assert poisoned_labels is flwr_robust.clients.poisoned_labels
    assert type(pickle.loads(pickle.dumps(mods.Noise(std=0.1)))) is mods.Noise


def test_a_project_with_a_package_of_that_name_keeps_its_own(tmp_path):
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "__init__.py").write_text("name = 'theirs'\n")
    code = (
        "from flwr_robust.clients import Adversary, attacks, mods; import clients;"
        "print(clients.name, attacks.SignFlip(), mods.SignFlip.__module__)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert run.stdout == "theirs SignFlip() flwr_robust.clients.mods\n"
