"""What a machine may lack: room on its disk, a folder, patience for a log; and states that were spoilt on it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp import strategy as flower

from flwr_robust import (
    ARC,
    NNM,
    Bucketing,
    CenteredClipping,
    Mean,
    Median,
    MixTailor,
    RobustStrategy,
    SparseFed,
    legacy,
    rules,
)
from flwr_robust.engine import cpu
from flwr_robust.record.report import read_reports
from flwr_robust.rules import LinearRule, PreAggregation
from tests.flower_messages import FakeGrid, record, reply, trainer

START = record({"w": np.zeros(4, np.float32)})
MAKE = {
    "ours": lambda **options: Median(min_train_nodes=3, **options),
    "wrapped": lambda **options: ARC(NNM(Median(num_malicious_nodes=1, min_train_nodes=3)), **options),
    "foreign": lambda **options: Bucketing(flower.FedAvg(min_train_nodes=3), s=1, **options),
}


class Untouched(FakeGrid):
    """A grid that no node may be asked through."""

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("a node was asked")


# ---------------------------------------------------------------- reports on disk


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_reports_that_cannot_be_written_end_the_run_before_any_node_is_asked(make, tmp_path):
    (tmp_path / "file").write_text("")
    strategy = make(report_path=tmp_path / "file" / "report.jsonl")
    with pytest.raises(ValueError, match=r"report_path = .* cannot be written"):
        strategy.start(grid=Untouched([1, 2, 3], None), initial_arrays=START, num_rounds=1)
    with pytest.raises(ValueError, match=r"report_path = .* cannot be written"):
        strategy.summary()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_disk_that_becomes_full_costs_reports_and_no_rounds(make, tmp_path, caplog):
    folder = tmp_path / "reports"
    strategy = make(report_path=folder / "report.jsonl", keep_reports=2)

    train = trainer(lambda node: np.float32(node))

    def answer(node, message):
        # In the second round the folder becomes a file.
        if node == 1 and folder.is_dir() and len(strategy.reports) == 1:
            (folder / "report.jsonl").rename(tmp_path / "before.jsonl")
            folder.rmdir()
            folder.write_text("")
        return train(node, message)

    with caplog.at_level(logging.WARNING, logger="flwr"):
        result = strategy.start(grid=FakeGrid([1, 2, 3], answer), initial_arrays=START, num_rounds=4)
    assert np.allclose(result.arrays["w"].numpy(), 8.0)
    assert [report.round for report in strategy.reports] == [3, 4]
    assert [report.round for report in read_reports(tmp_path / "before.jsonl")] == [1]
    assert caplog.text.count("is not in") == 3


KEEPING = MAKE | {
    "around another's": lambda **options: ARC(Bucketing(flower.FedAvg(), s=1, **options), num_malicious_nodes=1),
    "around ours": lambda **options: ARC(Median(num_malicious_nodes=1, **options)),
    "older": lambda **options: legacy.RobustFedAvg(rules.Median(), **options),
    "older by name": lambda **options: legacy.Krum(num_malicious_clients=1, **options),
}


@pytest.mark.parametrize("make", KEEPING.values(), ids=KEEPING)
def test_every_strategy_takes_what_is_kept_and_for_how_long(make):
    record = make(keep_reports=7, suspicion=0.5, exclude_after=0.7, forgive_after=3).record
    assert (record.keep_reports, record.suspicion.forgive_after) == (7, 3)
    record = make(keep_reports=None, suspicion=0.5, forgive_after=None).record
    assert (record.keep_reports, record.suspicion.forgive_after) == (None, None)
    record = make(suspicion=0.5).record
    assert (record.keep_reports, record.suspicion.forgive_after) == (100, 20)
    for name in ("keep_reports", "forgive_after"):
        with pytest.raises(ValueError, match=f"was given {name} = 0; give a whole number"):
            make(**{"suspicion": 0.5, name: 0})


def test_the_older_interface_tells_it_too(tmp_path):
    (tmp_path / "file").write_text("")
    strategy = legacy.RobustFedAvg(report_path=tmp_path / "file" / "report.jsonl")
    with pytest.raises(ValueError, match=r"report_path = .* cannot be written"):
        strategy.initialize_parameters(None)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_functions_of_reports_get_those_of_all_rounds_whatever_they_raise(make):
    seen = []

    def fail(report):
        seen.append(report)
        raise SystemError("the metrics server is down")

    strategy = make(on_report=fail)
    grid = FakeGrid([1, 2, 3], trainer(lambda node: np.float32(node)))
    result = strategy.start(grid=grid, initial_arrays=START, num_rounds=2)
    assert np.allclose(result.arrays["w"].numpy(), 4.0)
    assert seen == strategy.reports
    assert [report.round for report in seen] == [1, 2]


def test_functions_of_reports_on_the_older_interface():
    seen = []
    strategy = legacy.RobustFedAvg(on_report=seen.append)
    strategy.aggregate_fit(1, [], [])
    assert seen == strategy.reports
    assert seen[0].skipped


# ---------------------------------------------------------------- states

STATEFUL = {
    "centred": lambda: CenteredClipping(),
    "behind a chain": lambda: ARC(NNM(SparseFed(num_malicious_nodes=1))),
    "in a pool": lambda: MixTailor(pool=[rules.CenteredClipping(), rules.CenteredClipping()], seed=1),
    "momentum": lambda: Mean(server_momentum=0.5),
    "suspicion": lambda: Median(suspicion=0.5),
    "foreign": lambda: NNM(flower.FedAvg(), num_malicious_nodes=1, suspicion=0.5),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_a_state_that_is_not_finite_is_refused(make, bad):
    strategy = make()
    for current in (1, 2):
        strategy.aggregate_train(current, [reply(k, {"w": np.full(4, k + 1, np.float32)}) for k in range(4)])
    state = strategy.state()
    make().load_state(state)
    numbers = [name for name, array in state.items() if np.dtype(array.dtype).kind == "f"]
    assert numbers
    for name in numbers:
        spoilt = np.array(state[name].numpy())
        spoilt.reshape(-1)[-1] = bad
        with pytest.raises(ValueError, match=r"NaN or infinity|suspicions are values in \[0, 1\]"):
            make().load_state(ArrayRecord({**state, name: Array(spoilt)}))


# ---------------------------------------------------------------- threads and kernels


def blas_threads():
    return {pool["num_threads"] for pool in cpu._thread_pools().info() if pool["user_api"] == "blas"}


class Looks(LinearRule):
    """Notes how many threads BLAS has while it plans."""

    takes_f = False

    def weights(self, rows, f):
        self.seen = blas_threads()
        return np.full(rows.count, 1 / rows.count)


class LooksBefore(PreAggregation):
    """The same for a pre-aggregation."""

    takes_f = False

    def transform(self, rows, f, trace):
        self.seen = blas_threads()
        return rows


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_takes_no_threads_of_its_own(threads):
    rule, stage, alone = Looks(), LooksBefore(), LooksBefore()
    replies = [reply(k, {"w": np.ones(4, np.float32)}) for k in range(3)]
    before = blas_threads()
    RobustStrategy(rules.chain(stage, rule), threads=threads).aggregate_train(1, replies)
    rules.chain(alone, rules.NNM(1))(np.ones((3, 4)))
    assert rule.seen == stage.seen == alone.seen == {1}
    assert blas_threads() == before


def test_kernels_are_announced_once_a_process(monkeypatch, caplog):
    monkeypatch.setattr(cpu, "_first_use", iter([True]))
    monkeypatch.setattr(cpu, "_loaded", lambda: False)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for _ in range(2):
            Mean().start(grid=FakeGrid([1, 2], trainer(lambda node: 1.0)), initial_arrays=START, num_rounds=3)
    assert caplog.text.count("Loading compiled kernels") == 1
