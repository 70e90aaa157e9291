"""The example apps through ``flwr run``, defended by their diffs against one node that lies."""

from __future__ import annotations

import pytest

from tests.deployment.flower import flwr_run, superlink
from tests.examples.apps import APPS, NODES, accuracy, attack, copy, defend

# One core for Ray: to start a second worker takes longer than it saves.
FEDERATION = f"num-supernodes={NODES} client-resources-num-cpus=1 init-args-num-cpus=1"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Run a SuperLink for all of them."""
    folder = tmp_path_factory.mktemp("flower")
    with superlink(folder, simulation=True):
        yield folder


@pytest.mark.parametrize("name", APPS)
def test_it_learns_though_a_node_lies(name, home, tmp_path):
    example, model = APPS[name], tmp_path / APPS[name].model
    app = copy(example, tmp_path / "app")
    attack(example, app)
    defend(app)
    options = ["--federation-config", FEDERATION, "--run-config", f'model-path="{model}"']
    told = flwr_run(app, home, *options, timeout=400.0)
    assert model.exists(), told
    assert accuracy(example, app, model) > 0.8, told
