"""The catalog: which model takes which data set's samples."""

import pytest

from simulations.config.catalog import DATASETS, MODELS, resolve_model


@pytest.mark.parametrize(
    ("model", "dataset"), [("cnn-mnist", "digits"), ("cnn-cifar10", "mnist"), ("lstm", "mnist"), ("mlp", "shakespeare")]
)
def test_model_that_does_not_fit_is_told(model, dataset):
    with pytest.raises(ValueError, match=f"takes (images|texts).* but {dataset} has .* use one of: auto, "):
        resolve_model(model, dataset)


def test_every_data_sets_own_model_takes_its_samples():
    assert all(MODELS[resolve_model("auto", name)].takes(spec) for name, spec in DATASETS.items())
