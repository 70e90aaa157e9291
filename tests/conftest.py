from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flwr_robust.engine import cpu as parallel
from tests.flower_messages import set_identity

TESTS = Path(__file__).parent


# Folders whose tests wait for servers and sessions: they begin first, so that no process ends long after the others.
SLOW = ("deployment", "examples", "simulations")


def pytest_collection_modifyitems(items):
    """Put files that take longest first; the order within a file stays."""
    items.sort(
        key=lambda item: item.path.relative_to(TESTS).parts[0] not in SLOW if item.path.is_relative_to(TESTS) else 2
    )


@pytest.fixture(autouse=True)
def identity():
    set_identity()


@pytest.fixture(autouse=True, scope="session")
def narrow_blocks():
    """Read the tests' small matrices in many blocks, over several threads, as the large ones of real models are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "GRANTED", 0)
        yield


class Deprecations(logging.Handler):
    """What Flower tells of deprecated features: it logs that, where others would warn."""

    def __init__(self):
        super().__init__()
        self.told = []

    def emit(self, record):
        if "DEPRECATED FEATURE" in str(record.msg):
            self.told.append(record.getMessage())


# From the start: modules and fixtures of wider scope are not to use such features either.
deprecations = Deprecations()
logging.getLogger("flwr").addHandler(deprecations)


@pytest.fixture(autouse=True)
def no_deprecated_feature():
    """Fail the test in which this process used, or is found to have used, what Flower will remove."""
    yield
    told, deprecations.told = deprecations.told, []
    assert not told
