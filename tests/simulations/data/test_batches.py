"""Which samples a node trains on in a round."""

import numpy as np
import pytest
import torch

from simulations.data.batches import Plan, draw_batches
from simulations.data.inputs import Inputs
from simulations.data.load import Split, load_split

CPU = torch.device("cpu")
DIGITS = Inputs.of("digits")


def draw(seeds, **options):
    data = load_split("digits", "train")
    arguments = {"indices": np.arange(100, 160), "plan": Plan(8, steps=3)} | options
    return draw_batches(DIGITS, data, seeds=seeds, device=CPU, **arguments)


def test_batches_depend_on_their_seeds_alone():
    one, two, other = draw((1, 2, 3)), draw((1, 2, 3)), draw((1, 2, 4))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_batches_come_from_the_nodes_samples_without_repeats():
    labels = np.arange(1000)
    data = Split(np.zeros((1000, 1, 8, 8), dtype=np.uint8), labels)
    for _, drawn in draw_batches(DIGITS, data, np.arange(100, 160), Plan(50, steps=4), (0,), CPU):
        assert len(set(drawn.tolist())) == 50
        assert set(drawn.tolist()) <= set(range(100, 160))


def test_a_node_with_less_than_a_batch_uses_all_it_has():
    ((images, labels),) = draw((0,), indices=np.arange(5), plan=Plan(25))
    assert len(images) == len(labels) == 5


def test_samples_pass_through_the_poison():
    labels_of = load_split("digits", "train").labels

    def poison(chosen, inputs, labels):
        np.testing.assert_array_equal(labels_of[chosen], labels)
        return inputs + 1, 9 - labels

    for one, other in zip(draw((1,)), draw((1,), poison=poison), strict=True):
        assert torch.equal(one[0] + 1, other[0])
        assert torch.equal(9 - one[1], other[1])


def test_all_samples_in_order_make_a_batch_of_size_0():
    indices = np.array([7, 3, 5])
    first, second = draw((0,), indices=indices, plan=Plan(0, steps=2))
    assert torch.equal(first[1], torch.from_numpy(load_split("digits", "train").labels[indices]))
    assert torch.equal(first[0], second[0])


def test_epochs_pass_over_all_samples_in_random_order():
    indices, plan = np.arange(100, 123), Plan(10, steps=9, epochs=2)
    chosen = list(plan.choose(indices, np.random.default_rng(0)))
    assert plan.count(23) == len(chosen) == 6
    assert [len(part) for part in chosen] == [10, 10, 3] * 2
    passes = [np.concatenate(chosen[:3]), np.concatenate(chosen[3:])]
    for samples in passes:
        assert sorted(samples) == list(indices)
    assert not np.array_equal(*passes)


@pytest.mark.parametrize(
    ("plan", "samples", "steps"), [(Plan(25), 5, 1), (Plan(0, epochs=3), 7, 3), (Plan(4, epochs=1), 9, 3)]
)
def test_a_plan_tells_its_number_of_steps(plan, samples, steps):
    assert plan.count(samples) == len(list(plan.choose(np.arange(samples), np.random.default_rng(0)))) == steps
