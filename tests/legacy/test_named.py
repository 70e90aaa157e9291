"""The names of Flower's older robust strategies: their arguments, and what is aggregated."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from flwr.common import parameters_to_ndarrays
from flwr.server import strategy as flower
from flwr.server.strategy.aggregate import aggregate_krum

from flwr_robust.legacy import Bulyan, FedMedian, FedTrimmedAvg, Krum, RobustFedAvg
from tests.legacy.fakes import FakeClient, fit_res

F, N = 2, 11


@pytest.mark.parametrize("ours", [FedMedian, FedTrimmedAvg, Krum, Bulyan])
def test_the_arguments_are_those_of_flowers_class(ours):
    flowers = getattr(flower, ours.__name__)
    parameters = inspect.signature(flowers).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    given = {
        name: 0.25 if "fraction" in name else 3 if isinstance(default, int) else default
        for name, default in defaults.items()
    }
    made, expected = ours(**given), flowers(**given)
    for name in inspect.signature(flower.FedAvg).parameters.keys() & given.keys():
        assert getattr(made, name) == getattr(expected, name), name
    assert isinstance(made, RobustFedAvg)
    own = inspect.signature(ours).parameters
    for name in own.keys() & defaults.keys():
        assert own[name].default in (defaults[name], "krum"), name


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: FedMedian(), "Median()"),
        (lambda: FedTrimmedAvg(), "TrimmedMean(f=0.2)"),
        (lambda: FedTrimmedAvg(beta=0.1), "TrimmedMean(f=0.1)"),
        (lambda: Krum(), "Krum(f=0)"),
        (lambda: Krum(num_malicious_clients=2, num_clients_to_keep=1), "Krum(f=2)"),
        (lambda: Krum(num_malicious_clients=2, num_clients_to_keep=3), "MultiKrum(f=2, m=3)"),
        (lambda: Krum(num_malicious_clients=2, num_neighbors=5), "Krum(f=2, num_neighbors=5)"),
        (lambda: Bulyan(num_malicious_clients=1), "Bulyan(f=1)"),
        (lambda: Bulyan(first_aggregation_rule=aggregate_krum), "Bulyan(f=0)"),
        (lambda: Bulyan(first_aggregation_rule="mean"), "Bulyan(f=0, selection='mean')"),
    ],
)
def test_each_runs_its_rule(make, rule):
    assert repr(make().rule) == rule


@pytest.mark.parametrize(
    ("ours", "flowers"),
    [
        (FedMedian(), flower.FedMedian()),
        (FedTrimmedAvg(beta=0.25), flower.FedTrimmedAvg(beta=0.25)),
        (
            Krum(num_malicious_clients=F, num_neighbors=N - F - 2),
            flower.Krum(num_malicious_clients=F),
        ),
        (
            Krum(num_malicious_clients=F, num_clients_to_keep=3, num_neighbors=N - F - 2),
            flower.Krum(num_malicious_clients=F, num_clients_to_keep=3),
        ),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_with_these_arguments_the_aggregate_is_that_of_flowers_strategy(ours, flowers):
    rng = np.random.default_rng(0)
    results = [(FakeClient(node), fit_res([rng.standard_normal((4, 3)), rng.standard_normal(5)])) for node in range(N)]
    found, expected = (
        parameters_to_ndarrays(strategy.aggregate_fit(1, results, [])[0]) for strategy in (ours, flowers)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedTrimmedAvg(beta=0.5), r"FedTrimmedAvg was given beta = 0.5; give a number in \[0, 0.5\)"),
        (lambda: Bulyan(first_aggregation_rule=len), "Bulyan was given selection = <built-in function len>"),
        (lambda: Krum(num_malicious_clients=-1), "Krum was given f = -1"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
