"""Hostile SuperNodes, which speak the protocol themselves, on a real SuperLink: what cannot be decoded ends nothing."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.flower import daemon, flwr_run, superlink, supernodes
from tests.deployment.hostile_node import SPOIL

HONEST = 4
ROOT = Path(__file__).resolve().parents[2]
REASONS = {
    "garbage": "cannot be decoded",
    "bomb": "bytes, more than 1,048,576 (max_reply_bytes)",
    "lie": "cannot be decoded",
    "forged": "its metadata name another node",
    "large": "more than 1,048,576 bytes (max_reply_bytes)",
    "error": "error reply: x?INFO : all is well",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("flower")
    out = home / "found.json"
    with superlink(home) as address, supernodes(home, address, HONEST), ExitStack() as stack:
        for kind in SPOIL:
            command = [sys.executable, "-m", "tests.deployment.hostile_node", address, kind, str(home / f"{kind}.id")]
            stack.enter_context(daemon(command, home, kind, cwd=ROOT))
        options = f'out="{out}" num-nodes={HONEST + len(SPOIL)}'
        told = flwr_run(Path(__file__).parent / "hostile", home, "--run-config", options)
        assert out.exists(), told
        found = json.loads(out.read_text())
        found["ids"] = {kind: (home / f"{kind}.id").read_text() for kind in SPOIL}
    return found


def test_the_run_goes_on_and_the_model_is_that_of_the_honest(found: Any) -> None:
    assert [report["skipped"] for report in found["reports"]] == [None, None]
    # The "honest" hostile node sends ones, which is where the first step leads.
    assert found["point"] == [2.0] * 4


@pytest.mark.parametrize("kind", REASONS)
def test_each_hostile_reply_is_quarantined_under_its_sender(found: Any, kind: str) -> None:
    for report in found["reports"]:
        fate = report["nodes"][found["ids"][kind]]
        assert fate["status"] == "quarantined"
        assert REASONS[kind] in fate["reason"]


def test_nobody_else_is_blamed(found: Any) -> None:
    hostile = {found["ids"][kind] for kind in REASONS}
    for report in found["reports"]:
        accepted = {node for node, fate in report["nodes"].items() if fate["status"] == "accepted"}
        assert accepted == report["nodes"].keys() - hostile
        assert len(accepted) == HONEST + 1
        assert report["extra"] == report["unanswered"] == []
