from __future__ import annotations

from tests.rules.conftest import clusters_by_one_thread  # noqa: F401 - a fixture
