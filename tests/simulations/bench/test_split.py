"""Where the time of a strategy goes."""

from simulations.bench import split


def test_the_split_leaves_flwr_robust_as_it_was():
    from flwr_robust import engine
    from flwr_robust.rows import Rows

    before = engine.look, Rows.combine
    with split.watching():
        assert engine.look is not before[0]
    assert (engine.look, Rows.combine) == before


def test_parts_add_up_without_counting_twice():
    watch = split.Stopwatch()
    inner = watch.around(split.GRAM, lambda: sum(range(1000)))
    assert watch.run(split.OTHER, lambda: inner() + 1) == sum(range(1000)) + 1
    assert watch.seconds[split.GRAM] > 0
    assert watch.seconds[split.OTHER] > 0
    assert watch.seconds[split.READING] == 0
