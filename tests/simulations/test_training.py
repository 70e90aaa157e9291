"""Local steps against formulas written out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from simulations.catalog import DATASETS
from simulations.data import Split, load_split, normalise
from simulations.models import build_model
from simulations.training import HeavyBall, draw_batches, evaluate, heavy_ball_step, train

CPU = torch.device("cpu")


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
    batches = draw_batches("digits", data, np.arange(50), 10, 1, (0,), CPU)
    _, loss = train(model, batches, [0.1], {}, HeavyBall())
    assert loss == pytest.approx(np.log(10))  # a zero model gives each class one tenth


def draw(seeds, **options):
    data = load_split("digits", "train")
    arguments = {"indices": np.arange(100, 160), "batch_size": 8, "count": 3} | options
    return draw_batches("digits", data, seeds=seeds, device=CPU, **arguments)


def test_batches_depend_on_their_seeds_alone():
    one, two, other = draw((1, 2, 3)), draw((1, 2, 3)), draw((1, 2, 4))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_batches_come_from_the_nodes_samples_without_repeats():
    labels = np.arange(1000)
    data = Split(np.zeros((1000, 1, 8, 8), dtype=np.uint8), labels)
    for _, drawn in draw_batches("digits", data, np.arange(100, 160), 50, 4, (0,), CPU):
        assert len(set(drawn.tolist())) == 50
        assert set(drawn.tolist()) <= set(range(100, 160))


def test_a_node_with_less_than_a_batch_uses_all_it_has():
    ((images, labels),) = draw((0,), indices=np.arange(5), batch_size=25, count=1)
    assert len(images) == len(labels) == 5


def test_labels_pass_through_the_relabelling():
    plain, flipped = draw((1,)), draw((1,), relabel=lambda labels, _: 9 - labels)
    assert all(torch.equal(9 - a[1], b[1]) for a, b in zip(plain, flipped, strict=True))


def test_only_cifar_is_mirrored():
    images = np.zeros((200, 3, 32, 32), dtype=np.uint8)
    images[..., 0] = 255  # a bright left edge
    data = Split(images, np.zeros(200, dtype=np.int64))
    ((drawn, _),) = draw_batches("cifar10", data, np.arange(200), 200, 1, (0,), CPU)
    left = (drawn[:, 0, 0, 0] > drawn[:, 0, 0, -1]).sum().item()
    assert 60 < left < 140
    assert [spec.name for spec in DATASETS.values() if spec.flips] == ["cifar10"]


def test_normalisation_is_the_papers():
    white = normalise(np.full((1, 1, 28, 28), 255, dtype=np.uint8), DATASETS["mnist"])
    np.testing.assert_allclose(white, (1 - 0.1307) / 0.3081, rtol=1e-6)
    assert white.dtype == np.float32


def test_digits_are_normalised_to_unit_scale():
    images = normalise(load_split("digits", "train").images, DATASETS["digits"])
    assert abs(images.mean()) < 0.01
    assert abs(images.std() - 1) < 0.01


def test_evaluation_counts_correct_answers():
    data = load_split("digits", "test")
    accuracy, loss = evaluate(build_model("softmax", "digits"), "digits", data, CPU)
    assert accuracy == pytest.approx((data.labels == 0).mean())  # a zero model always answers class 0
    assert loss == pytest.approx(np.log(10), rel=1e-5)
    some = np.flatnonzero(data.labels == 0)[:7]
    assert evaluate(build_model("softmax", "digits"), "digits", data, CPU, some)[0] == 1.0
