from __future__ import annotations

import pytest

from tests.rules.conftest import clusters_by_one_thread  # noqa: F401 - a fixture


@pytest.fixture(params=[None, "cpu"], ids=["compiled", "torch"])
def device(request):
    """Name of the device to work on."""
    if request.param is not None:
        pytest.importorskip("torch")
    return request.param
