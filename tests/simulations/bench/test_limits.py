"""The machine's limits."""

from flwr_robust import rules
from simulations.bench import limits

# ---------------------------------------------------------------- limits, split, growth


def test_comparators_are_batchers():
    assert [limits.comparators(2**power) for power in range(5)] == [0, 1, 5, 19, 63]
    assert limits.comparators(8) < limits.comparators(9) < limits.comparators(16)


def test_limits_grow_with_what_a_chain_does():
    seconds = {"read": 1.0, "gram": 3.0, "mix": 2.0, "exchange": 0.5}

    def least(spec):
        return limits.least_seconds(rules.from_spec(spec, 1), 4, seconds)

    assert least("mean") == 1.0
    assert least("median") == 5 * 0.5
    assert least("krum") == 3.0 + 1.0
    assert least("arc+mean") == 1.0 + 1.0
    assert least("arc+nnm+krum") == 3.0 + 1.0
    assert least("nnm+median") == 3.0 + 2.0 + 5 * 0.5
    assert least("lasa") == 2.0
    # On a device each pass takes a copy there, which hides what is computed; LASA's own stay on the CPU.
    seconds["copy"] = 7.0
    assert least("mean") == 7.0
    assert least("nnm+median") == 7.0 + 7.0
    assert least("nnm+lasa") == 7.0 + 2.0
