"""The adversary against a real SuperLink with real SuperNodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deployment.flower import flwr_run, superlink, supernodes

NODES = 3


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("flower")
    out = home / "found.json"
    with superlink(home) as address, supernodes(home, address, NODES):
        told = flwr_run(Path(__file__).parent / "red_team", home, "--run-config", f'out="{out}" num-nodes={NODES}')
    assert out.exists(), told
    return json.loads(out.read_text())


def distance(case: Any) -> float:
    """Return how far the global model ended from the point that honest nodes walk to."""
    return float(np.linalg.norm(np.array(case["point"]) - 1))


def test_the_attack_breaks_averaging_and_the_defence_stands(found: Any) -> None:
    assert distance(found["undefended"]) > 1.5
    assert distance(found["defended"]) < 1.0
    assert [found[name]["malicious"] for name in ("undefended", "defended")] == [1, 1]


def test_every_round_has_every_reply_and_counters_are_left_alone(found: Any) -> None:
    for name in ("undefended", "defended"):
        assert found[name]["replies"] == [NODES, NODES]
        assert found[name]["seen"] == 3


def test_silence_does_not_stop_the_run(found: Any) -> None:
    assert found["silent"]["replies"] == [NODES - 1]
    assert distance(found["silent"]) < 1.2
