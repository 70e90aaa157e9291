"""The replies of a round, and the same numbers as a matrix."""

from math import prod

import numpy as np
import pytest

from simulations.bench import messages
from simulations.bench.messages import MODELS, Problem, layers_for

# ---------------------------------------------------------------- messages


def test_models_are_the_papers():
    assert [sum(prod(shape) for _, shape in model) for model in MODELS] == [431_080, 1_310_922, 11_173_962]


@pytest.mark.parametrize("d", [1, 50, 999, 1000, 4000, 431_080, 431_081, 10**6, 10**7])
def test_layers_add_up_to_any_size(d):
    layers = layers_for(d)
    assert sum(prod(shape) for _, shape in layers) == d
    assert all(size > 0 for _, shape in layers for size in shape)
    assert any(len(shape) == 2 for _, shape in layers)
    if d >= messages.LEAST_LAYERED:
        assert len({prod(shape) for _, shape in layers}) > 4


def test_messages_hold_the_matrix():
    problem = Problem(3, 2000, 1)
    first, again = problem.replies(), problem.replies()
    for row, reply in zip(problem.matrix, first, strict=True):
        np.testing.assert_array_equal(problem.update(reply.content["arrays"]).astype(np.float32), row)
    first[0].content["arrays"].clear()
    assert again[0].content["arrays"]
    assert [reply.metadata.src_node_id for reply in again] == problem.nodes
