"""The cases measure what they say."""

from inspect import signature

import numpy as np
import pytest

from flwr_robust import rules
from simulations.bench import cases
from simulations.bench.messages import Problem
from tests.simulations.bench.command import D, F, N

GIVEN = {"seed": 1, "reference": 2}
NAMES = {kind.__name__: name for name, kind in rules.REGISTRY.items()}
SPECS = {name: "+".join(NAMES[part] for part in name.split("+")) for name in cases.OURS}


@pytest.mark.parametrize("name", cases.OURS)
def test_strategies_that_are_measured_give_what_their_rules_give(name):
    problem = Problem(N, D, F)
    chosen = {case.group: case for case in cases.all_cases([name], peers=False) if case.name == name}
    with cases.quiet():
        update = problem.update(chosen["strategy"].start(problem)()())
    takes = signature(getattr(rules, name.split("+")[-1])).parameters
    rule = rules.from_spec(SPECS[name], F, {key: value for key, value in GIVEN.items() if key in takes})
    told = {"ids": problem.nodes, "root": problem.matrix[0], "model": problem.model}
    expected = rule(problem.matrix, problem.layers, **told)
    # The model is float32: an update is known to within the model's rounding.
    np.testing.assert_allclose(update, expected, atol=1e-7)
    np.testing.assert_array_equal(chosen["matrix"].start(problem)()(), expected)


def test_a_hopeless_search_is_skipped_before_it_starts():
    pytest.importorskip("byzfl")
    case = next(case for case in cases.all_cases(["MDA"]) if case.group == "byzfl")
    with pytest.raises(cases.SkippedError, match="subsets"):
        case.start(Problem(40, 100, 12))
