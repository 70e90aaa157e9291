from __future__ import annotations

import pytest
import sklearn.cluster  # noqa: F401 - its OpenMP is to be there before it is limited
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="package")
def clusters_by_one_thread():
    """Let scikit-learn's KMeans work in one thread: where cores are busy, two that wait for each other take seconds."""
    with threadpool_limits(1, user_api="openmp"):
        yield
