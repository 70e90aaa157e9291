"""Local steps against formulas written out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from simulations.data.batches import Plan, batches_of, draw_batches
from simulations.data.inputs import Inputs
from simulations.data.load import Split, load_split
from simulations.node.models import build_model
from simulations.node.training import HeavyBall, evaluate, heavy_ball_step, train

CPU = torch.device("cpu")
DIGITS = Inputs.of("digits")


def linear_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, dtype=torch.float64), nn.LogSoftmax(dim=1))


def batch(seed):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(5, 3))), torch.from_numpy(random.integers(0, 4, 5))


def gradient(weight, bias, images, labels):
    """Gradient of the mean cross-entropy of softmax regression, by hand."""
    logits = images @ weight.T + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    return shares.T @ images / len(labels), shares.mean(axis=0)


@pytest.mark.parametrize(
    ("beta", "decay", "clip"), [(0.0, 0.0, 0.0), (0.9, 0.0, 0.0), (0.9, 0.1, 0.0), (0.9, 0.1, 0.05)]
)
def test_steps_equal_the_formula(beta, decay, clip):
    model, rule = linear_model(), HeavyBall(beta, decay, clip)
    weight, bias = (value.detach().numpy().copy() for value in model[0].parameters())
    momentum, by_hand = {}, [np.zeros_like(weight), np.zeros_like(bias)]
    for step, rate in enumerate((0.5, 0.25, 0.125)):
        images, labels = batch(step)
        momentum, _ = heavy_ball_step(model, (images, labels), momentum, rule, rate)
        slopes = gradient(weight, bias, images.numpy(), labels.numpy())
        slopes = [slope + decay * value for slope, value in zip(slopes, (weight, bias), strict=True)]
        norm = np.sqrt(sum((slope**2).sum() for slope in slopes))
        factor = min(1.0, clip / norm) if clip else 1.0
        assert not clip or norm > clip  # else the case would not test clipping
        by_hand = [beta * old + (1 - beta) * factor * slope for old, slope in zip(by_hand, slopes, strict=True)]
        weight, bias = weight - rate * by_hand[0], bias - rate * by_hand[1]
    for value, expected in zip(model[0].parameters(), (weight, bias), strict=True):
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(momentum["0.weight"].numpy(), by_hand[0], rtol=1e-5)


def test_train_goes_on_with_the_momentum_it_is_given():
    whole, parts, rule = linear_model(), linear_model(), HeavyBall(0.9, 0.0, 0.0)
    train(whole, [batch(0), batch(1)], [0.5, 0.5], {}, rule)
    momentum, _ = train(parts, [batch(0)], [0.5], {}, rule)
    train(parts, [batch(1)], [0.5], momentum, rule)
    assert torch.equal(whole[0].weight, parts[0].weight)


def test_loss_is_the_mean_over_batches_before_each_step():
    model = build_model("softmax", "digits")
    data = load_split("digits", "train")
    batches = draw_batches(DIGITS, data, np.arange(50), Plan(10), (0,), CPU)
    _, loss = train(model, batches, [0.1], {}, HeavyBall())
    assert loss == pytest.approx(np.log(10))  # a zero model gives each class one tenth


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


def test_labels_pass_through_the_relabelling():
    plain, flipped = draw((1,)), draw((1,), relabel=lambda labels, _: 9 - labels)
    assert all(torch.equal(9 - a[1], b[1]) for a, b in zip(plain, flipped, strict=True))


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


def test_evaluation_counts_correct_answers():
    data = load_split("digits", "test")
    accuracy, loss = evaluate(build_model("softmax", "digits"), batches_of(DIGITS, data, CPU))
    assert accuracy == pytest.approx((data.labels == 0).mean())  # a zero model always answers class 0
    assert loss == pytest.approx(np.log(10), rel=1e-5)
    some = np.flatnonzero(data.labels == 0)[:7]
    assert evaluate(build_model("softmax", "digits"), batches_of(DIGITS, data, CPU, some))[0] == 1.0
