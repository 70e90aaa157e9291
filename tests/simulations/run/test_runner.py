"""What a run checks before it starts: enough nodes, and who they are."""

from types import SimpleNamespace

import pytest
from flwr.app import Error, Message, RecordDict

from simulations.config.run_config import ConfigurationError, RunConfig
from simulations.data.load import DataError
from simulations.run import runner
from simulations.run.recorder import result_path
from simulations.run.results import read_result
from simulations.run.runner import run_all
from simulations.run.strategy import NodeError
from tests.simulations.local_grid import LocalGrid

pytestmark = pytest.mark.usefixtures("task_identity")


class Nodes:
    """A stand-in for a grid: nodes that connect over time, and their answers."""

    def __init__(self, counts, answers=()):
        self.counts = iter(counts)
        self.count = 0
        self.answers = answers

    def get_node_ids(self):
        self.count = next(self.counts, self.count)
        return list(range(100, 100 + self.count))

    def send_and_receive(self, messages, *, timeout):
        assert all(message.metadata.message_type == "query" for message in messages)
        return self.answers


def answer(node, partition):
    records = {"node": {"partition-id": partition}}
    return SimpleNamespace(
        has_error=lambda: False,
        metadata=SimpleNamespace(src_node_id=node),
        content=SimpleNamespace(config_records=records),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(runner, "NODES_INTERVAL", 0.01)


def test_enough_nodes_are_returned_once_no_more_come():
    assert len(runner.wait_for_nodes(Nodes([0, 2, 5, 9, 9]), needed=3)) == 9


def test_too_few_nodes_end_with_the_option_to_use():
    with pytest.raises(ConfigurationError, match=r'2 nodes .* needs at least 7; .*"num-supernodes=7"'):
        runner.wait_for_nodes(Nodes([2]), needed=7, timeout=0.05)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"num_malicious": 3}, 7),
        ({"num_malicious": 0}, 1),
        ({"num_malicious": 2, "defense": "mean"}, 5),
        ({"num_malicious": 1, "defense_args": "f=4"}, 9),
        ({"num_malicious": 4, "experiment": "nnm-table-2"}, 17),
        ({"num_malicious": 1, "num_nodes": 5, "experiment": "nnm-table-2"}, 5),
        ({"num_malicious": 2, "fraction_train": 0.5}, 6),
    ],
)
def test_needed_nodes(options, needed):
    assert runner.needed_nodes(RunConfig(**options)) == needed


def test_partitions_are_learned_from_the_nodes():
    grid = Nodes([], [answer(102, 0), answer(100, 1), answer(101, 2)])
    assert runner.learn_partitions(grid, [100, 101, 102]) == {102: 0, 100: 1, 101: 2}


@pytest.mark.parametrize("answers", [[answer(100, 0)], [answer(100, 0), answer(101, 0)]])
def test_missing_or_repeated_partitions_are_told(answers):
    with pytest.raises(RuntimeError, match="each id from 0 to 1 must occur once"):
        runner.learn_partitions(Nodes([], answers), [100, 101])


def test_a_node_that_fails_is_named():
    failed = SimpleNamespace(
        has_error=lambda: True,
        metadata=SimpleNamespace(src_node_id=101),
        error=SimpleNamespace(reason="no data"),
    )
    with pytest.raises(RuntimeError, match="node 101 did not report its partition: no data"):
        runner.learn_partitions(Nodes([], [failed]), [101])


class FailingGrid(LocalGrid):
    """Nodes of which an honest one answers with an error in the second round, as when its process has died."""

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(messages, timeout=timeout)
        if replies and len(self.asked) == 2:
            honest = next(node for node, context in self.contexts.items() if context.node_config["partition-id"] == 0)
            place = [reply.metadata.src_node_id for reply in replies].index(honest)
            question = Message(RecordDict(), dst_node_id=honest, message_type="train")
            replies[place] = Message(Error(0, "the actor died"), reply_to=question)
        return replies


def test_a_node_that_fails_ends_the_run_and_the_results_say_why(tmp_path):
    config, grid = RunConfig(num_malicious=1, num_rounds=3, out_dir=str(tmp_path)), FailingGrid(5)
    with pytest.raises(NodeError, match="failed in round 2: the actor died"):
        runner.run(grid, config, runner.learn_partitions(grid, grid.get_node_ids()))
    result = read_result(result_path(config, 5))
    assert result.error is not None
    assert "the actor died" in result.error
    assert [line["round"] for line in result.rounds] == [0, 1]


def test_nodes_may_be_at_fault_on_purpose(tmp_path):
    config, grid = RunConfig(num_malicious=1, num_rounds=3, out_dir=str(tmp_path), attack="faults"), FailingGrid(5)
    path = runner.run(grid, config, runner.learn_partitions(grid, grid.get_node_ids()))
    assert read_result(path).end is not None


def test_a_run_that_fails_stops_no_other_and_is_raised_at_the_end(tmp_path):
    configs = [
        RunConfig(num_malicious=1, num_rounds=1, out_dir=str(tmp_path), dataset=dataset, data_dir=str(tmp_path))
        for dataset in ("mnist", "digits")
    ]
    with pytest.raises(DataError, match="mnist"):
        run_all(LocalGrid(5), configs, 5)
    first, second = (read_result(result_path(config, 5)) for config in configs)
    assert first.error is not None
    assert second.end is not None
