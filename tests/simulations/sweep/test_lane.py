"""A session that ends early: what becomes of its cell."""

import pytest

from simulations.sweep import lane
from simulations.sweep.store import read_records
from tests.simulations.sweep.fakes import FakeSession


def test_a_cell_is_not_blamed_for_a_session_that_ends_before_it_begins(sweep, sessions):
    order = FakeSession.order
    calls = []

    def refuse_once(self, config):
        calls.append(config.learning_rate)
        self.sessions.fates = {0.1: "refuses"} if len(calls) == 1 else {}
        return order(self, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSession, "order", refuse_once)
        assert sweep().exit_code == 0
    assert calls == [0.1, 0.1, 0.5, 0.9]


def test_a_sweep_gives_up_where_no_session_starts(sweep, sessions):
    sessions.fates[0.1] = "refuses"
    result = sweep()
    assert result.exit_code == 1
    assert len(sessions.started) == lane.MAX_EARLY_ENDS
    assert "3 sessions in a row ended early" in result.output
    assert "the log's last words" in result.output
    assert read_records(sweep.cells) == []
