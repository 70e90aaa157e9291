"""`Observe` on Flower's older interface: training is what it is without it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAdam, FedAvg, Krum

from flwr_robust import rules
from flwr_robust.legacy import Observe, RobustFedAvg
from tests.legacy.fakes import FakeClient, manager

START = [np.zeros((2, 2), np.float32), np.ones(3, np.float32)]
RULES = {"krum": rules.Krum(f=1), "chain": rules.chain(rules.ARC(1), rules.NNM(1), rules.TrimmedMean(1))}
OPTIONS = {"min_fit_clients": 6, "min_available_clients": 6, "min_evaluate_clients": 6}
MAKE = {
    "ours": lambda p: RobustFedAvg(rules.CenteredClipping(), initial_parameters=p, server_momentum=0.5, **OPTIONS),
    "FedAvg": lambda p: FedAvg(initial_parameters=p, **OPTIONS),
    "FedAdam": lambda p: FedAdam(initial_parameters=p, **OPTIONS),
    "Krum": lambda p: Krum(initial_parameters=p, num_malicious_clients=1, **OPTIONS),
}


def step(number, arrays):
    rng = np.random.default_rng(number)
    return [(a + (50 if number == 1 else 1) * rng.standard_normal(a.shape)).astype(a.dtype) for a in arrays]


def fail(number, arrays):
    raise RuntimeError("out of memory")


def train(strategy):
    """Do as Flower's loop does, which hands results on in no order of its own."""
    pool = manager([FakeClient(number, step) for number in range(1, 6)] + [FakeClient(6, fail)])
    parameters = strategy.initialize_parameters(pool)
    for server_round in range(1, 4):
        asked = strategy.configure_fit(server_round, parameters, pool)
        results, failures = [], []
        for client, instruction in sorted(asked, key=lambda pair: pair[0].cid):
            try:
                results.append((client, client.fit(instruction, None, None)))
            except RuntimeError as error:
                failures.append(error)
        parameters, _ = strategy.aggregate_fit(server_round, results, failures)
    return [a.tobytes() for a in parameters_to_ndarrays(parameters)]


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_training_is_bit_identical_and_each_candidate_is_reported(make, caplog):
    parameters = ndarrays_to_parameters(START)
    strategy = Observe(make(parameters), RULES)
    assert train(strategy) == train(make(parameters))
    assert [report.round for report in strategy.reports] == [1, 2, 3]
    for report in strategy.reports:
        assert list(report.candidates) == list(RULES)
        assert all(found.failed is None and found.distance is not None for found in report.candidates.values())
        assert len(report.candidates["krum"].left_out) == 5
        assert 1 in report.candidates["krum"].left_out
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.summary()
    assert "medians of 3 rounds" in caplog.text


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"give a strategy of flwr.server.strategy"):
        Observe("FedAvg", RULES)
