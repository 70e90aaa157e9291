"""The cases measure what they say."""

import numpy as np
import pytest

from flwr_robust import rules
from simulations.bench import cases
from simulations.bench.messages import Problem
from tests.simulations.bench.command import D, F, N

SPECS = {
    name: name.lower()
    .replace("trimmedmean", "trimmed-mean")
    .replace("multikrum", "multi-krum")
    .replace("geometricmedian", "geometric-median")
    .replace("centeredclipping", "centered-clipping")
    for name in cases.OURS
}


@pytest.mark.parametrize("name", cases.OURS)
def test_strategies_that_are_measured_give_what_their_rules_give(name):
    problem = Problem(N, D, F)
    chosen = {case.group: case for case in cases.all_cases([name], peers=False) if case.name == name}
    with cases.quiet():
        update = problem.update(chosen["strategy"].start(problem)()())
    rule = rules.from_spec(SPECS[name], F, {"seed": 1} if name in ("DnC", "SignGuard") else {})
    expected = rule(problem.matrix, problem.layers)
    # The model is float32: an update is known to within the model's rounding.
    np.testing.assert_allclose(update, expected, atol=1e-7)
    np.testing.assert_array_equal(chosen["matrix"].start(problem)()(), expected)


def test_a_hopeless_search_is_skipped_before_it_starts():
    pytest.importorskip("byzfl")
    case = next(case for case in cases.all_cases(["MDA"]) if case.group == "byzfl")
    with pytest.raises(cases.SkippedError, match="subsets"):
        case.start(Problem(40, 100, 12))
