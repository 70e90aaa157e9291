"""What a session hands to its child, and what it keeps out of its log."""

from __future__ import annotations

import logging

import pytest

from simulations.engine.child import _is_news
from simulations.engine.session import Resources, _child_environment


@pytest.mark.parametrize(("given", "told"), [(None, "local"), ("", "local"), ("10.0.0.1:6379", "10.0.0.1:6379")])
def test_a_session_has_a_ray_of_its_own_unless_an_address_is_given(
    monkeypatch: pytest.MonkeyPatch, given: str | None, told: str
) -> None:
    # What an earlier, killed Ray left in /tmp/ray/ray_current_cluster would make the child wait for ever.
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if given is not None:
        monkeypatch.setenv("RAY_ADDRESS", given)
    assert _child_environment(Resources())["RAY_ADDRESS"] == told


def test_a_session_gets_its_part_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert _child_environment(Resources(devices=("1", "2")))["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert _child_environment(Resources())["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_threads_sleep_while_they_wait_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert _child_environment(Resources())["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert _child_environment(Resources())["OMP_WAIT_POLICY"] == "ACTIVE"


def test_one_deprecation_is_kept_out_of_the_log_and_no_other() -> None:
    def record(text: str, *values: str) -> logging.LogRecord:
        return logging.LogRecord("flwr", logging.WARNING, __file__, 1, text, values, None)

    feature = "DEPRECATED FEATURE: %s"
    assert not _is_news(record(feature, "The `run_simulation` function is deprecated and will be removed"))
    assert _is_news(record(feature, "`Message.create_reply` is deprecated."))
    assert _is_news(record("Starting Flower Simulation"))
