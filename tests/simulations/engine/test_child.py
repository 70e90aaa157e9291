"""What the child process keeps out of its log."""

from __future__ import annotations

import logging

from simulations.engine.child import _is_news


def test_one_deprecation_is_kept_out_of_the_log_and_no_other() -> None:
    def record(text: str, *values: str) -> logging.LogRecord:
        return logging.LogRecord("flwr", logging.WARNING, __file__, 1, text, values, None)

    feature = "DEPRECATED FEATURE: %s"
    assert not _is_news(record(feature, "The `run_simulation` function is deprecated and will be removed"))
    assert _is_news(record(feature, "`Message.create_reply` is deprecated."))
    assert _is_news(record("Starting Flower Simulation"))
