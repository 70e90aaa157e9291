"""Where the time of a strategy goes."""

from flwr_robust.engine.rows import Rows
from flwr_robust.rules import run
from simulations.bench import split


def test_the_split_leaves_flwr_robust_as_it_was():
    before = run.measure, Rows.combine
    with split.watching():
        assert run.measure is not before[0]
    assert (run.measure, Rows.combine) == before


def test_parts_add_up_without_counting_twice():
    watch = split.Stopwatch()
    inner = watch.around(split.GRAM, lambda: sum(range(1000)))
    assert watch.run(split.OTHER, lambda: inner() + 1) == sum(range(1000)) + 1
    assert watch.seconds[split.GRAM] > 0
    assert watch.seconds[split.OTHER] > 0
    assert watch.seconds[split.READING] == 0
