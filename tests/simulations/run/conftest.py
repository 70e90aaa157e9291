"""The parameters of a run that is recorded."""

import pytest

from simulations.config.run_config import RunConfig


@pytest.fixture
def config(tmp_path):
    return RunConfig(out_dir=str(tmp_path), num_malicious=2)
