"""OrderedGrid: the order of partitions, whatever order the grid beneath has."""

import random
from types import SimpleNamespace

from simulations.run.ordered_grid import OrderedGrid

PARTITION_OF = {900: 0, 17: 1, 450: 2, 3: 3}


def message(source=0, destination=0):
    return SimpleNamespace(metadata=SimpleNamespace(src_node_id=source, dst_node_id=destination))


class ShuffledGrid:
    """A stand-in for Flower's grid: nodes and replies in any order."""

    def __init__(self):
        self.run = "the run"
        self.pushed = []

    def set_run(self, run):
        self.run = run

    def get_node_ids(self):
        return random.sample(list(PARTITION_OF), len(PARTITION_OF))

    def create_message(self, *given):
        return given

    def push_messages(self, messages):
        self.pushed = [one.metadata.dst_node_id for one in messages]
        return [f"id-{node}" for node in self.pushed]

    def pull_messages(self, message_ids):
        return [message(source=node) for node in self.get_node_ids()]

    def send_and_receive(self, messages, *, timeout=None):
        self.timeout = timeout
        self.push_messages(messages)
        return self.pull_messages([])


def sources(replies):
    return [reply.metadata.src_node_id for reply in replies]


def test_everything_comes_in_the_order_of_partitions():
    beneath = ShuffledGrid()
    grid = OrderedGrid(beneath, PARTITION_OF)
    expected = list(PARTITION_OF)
    for _ in range(20):
        to_send = [message(destination=node) for node in beneath.get_node_ids()]
        assert grid.get_node_ids() == expected
        assert sources(grid.send_and_receive(to_send, timeout=7.0)) == expected
        assert beneath.pushed == expected
        assert grid.push_messages(to_send) == [f"id-{node}" for node in expected]
        assert sources(grid.pull_messages([])) == expected
    assert beneath.timeout == 7.0


def test_only_nodes_that_take_part_are_listed():
    assert OrderedGrid(ShuffledGrid(), {450: 1, 17: 0}).get_node_ids() == [17, 450]


def test_the_rest_is_passed_on():
    beneath = ShuffledGrid()
    grid = OrderedGrid(beneath, PARTITION_OF)
    assert grid.run == "the run"
    grid.set_run("another")
    assert beneath.run == "another"
    assert grid.create_message("content", "train", 3, "group") == ("content", "train", 3, "group", None)
