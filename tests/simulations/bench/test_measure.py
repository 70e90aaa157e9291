"""Peers that fail or are slow."""

import pytest

from simulations.bench import cases
from simulations.bench.measure import Bench
from simulations.bench.messages import Problem


def test_a_peer_that_fails_is_skipped_and_ours_is_not():
    def fail(_):
        raise RuntimeError("broken")

    def made(group):
        return [cases.all_cases(["Mean"])[0], cases.Case("X", group, "Mean", fail)]

    with cases.quiet():
        broken = Bench(Problem(3, 100, 0), made("flower"), 1, 1, 60.0)
        list(broken.run())
        assert broken.results[1].skipped == "failed: RuntimeError: broken"
        with pytest.raises(RuntimeError, match="broken"):
            list(Bench(Problem(3, 100, 0), made("strategy"), 1, 1, 60.0).run())


def test_a_slow_peer_is_measured_once():
    with cases.quiet():
        slow = Bench(Problem(5, 1000, 1), cases.all_cases(["Median"]), 1, 3, peer_limit=0.0)
        list(slow.run())
    for result in slow.results:
        assert len(result.seconds) == (1 if result.case.is_peer else 3)
