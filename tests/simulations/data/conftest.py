"""A cache of decoded samples for a test alone."""

import pytest

from simulations.config.catalog import DATA_DIR_VARIABLE
from simulations.data.load import load_split


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Give the test a cache folder of its own and no data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    load_split.cache_clear()
    yield tmp_path
    load_split.cache_clear()
