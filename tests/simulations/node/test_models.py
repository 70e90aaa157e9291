"""Models: the papers' parameter counts, outputs and initial values."""

import pytest
import torch

from simulations.config.catalog import DATASETS, MODELS
from simulations.node.models import BUILDERS, build_model, initial_model


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_listed_model_can_be_built():
    assert set(BUILDERS) == set(MODELS)
    assert {spec.default_model for spec in DATASETS.values()} <= set(MODELS)


@pytest.mark.parametrize(
    ("model", "dataset", "parameters"),
    [
        ("cnn-mnist", "mnist", 431_080),
        ("cnn-cifar10", "cifar10", 1_310_922),
        ("mlp", "mnist", 784 * 50 + 50 + 50 * 50 + 50 + 50 * 10 + 10),
        ("mlp", "digits", 64 * 50 + 50 + 50 * 50 + 50 + 50 * 10 + 10),
        ("softmax", "mnist", 7_850),
        ("softmax", "cifar10", 3072 * 10 + 10),
        ("mlp-small", "mnist", 784 * 50 + 50 + 50 * 10 + 10),
        ("cnn-lpa", "cifar10", 3 * 16 * 9 + 16 + 16 * 32 * 9 + 32 + 2048 * 128 + 128 + 1290),
        ("cnn-mixtailor", "mnist", 21_840),
        ("cnn-mixtailor", "cifar10", 3 * 10 * 25 + 10 + 10 * 20 * 25 + 20 + 500 * 50 + 50 + 510),
        ("cnn-lasa", "femnist", 32 * 25 + 32 + 32 * 64 * 25 + 64 + 3136 * 512 + 512 + 512 * 62 + 62),
        ("resnet18", "cifar10", 11_173_962),
        ("resnet18-group", "cifar100", 11_173_962 + 90 * 513),
        ("lstm", "shakespeare", 90 * 8 + 4 * 256 * (8 + 256 + 2) + 4 * 256 * (512 + 2) + 257 * 90),
    ],
)
def test_parameter_counts(model, dataset, parameters):
    assert count(build_model(model, dataset)) == parameters


@pytest.mark.parametrize(
    ("model", "dataset"),
    [(model, dataset) for model in MODELS for dataset in DATASETS if MODELS[model].takes(DATASETS[dataset])],
)
def test_outputs_are_log_probabilities(model, dataset):
    spec = DATASETS[dataset]
    inputs = torch.randint(0, 90, (4, 80)) if spec.is_text else torch.randn(4, *spec.shape)
    outputs = build_model(model, dataset, seed=0).eval()(inputs)
    assert outputs.shape == (4, spec.num_classes)
    torch.testing.assert_close(outputs.exp().sum(dim=1), torch.ones(4))


def test_softmax_starts_from_zero():
    assert all(bool((parameter == 0).all()) for parameter in build_model("softmax", "digits").parameters())


def test_seed_determines_the_parameters_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (build_model("mlp", "digits", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_initial_parameters_are_scaled_and_statistics_are_not():
    one, three = (initial_model("resnet18", "cifar10", 1, scale) for scale in (1.0, 3.0))
    assert all(torch.equal(3 * a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), three.buffers(), strict=True))


def test_group_normalisation_keeps_no_statistics():
    assert list(build_model("resnet18-group", "cifar10").buffers()) == []
    assert list(build_model("resnet18", "cifar10").buffers()) != []


def test_the_recurrent_network_reads_earlier_characters_too():
    model = build_model("lstm", "shakespeare", seed=0)
    texts = torch.randint(1, 87, (2, 80))
    other = texts.clone()
    other[:, -8] = other[:, -8] % 86 + 1
    assert not torch.equal(model(texts), model(other))
