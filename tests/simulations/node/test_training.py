"""Local steps against formulas written out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from simulations.data.batches import Plan, batches_of, draw_batches
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
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


def test_evaluation_counts_correct_answers():
    data = load_split("digits", "test")
    accuracy, loss = evaluate(build_model("softmax", "digits"), batches_of(DIGITS, data, CPU))
    assert accuracy == pytest.approx((data.labels == 0).mean())  # a zero model always answers class 0
    assert loss == pytest.approx(np.log(10), rel=1e-5)
    some = np.flatnonzero(data.labels == 0)[:7]
    assert evaluate(build_model("softmax", "digits"), batches_of(DIGITS, data, CPU, some))[0] == 1.0
