"""What the README says of Flower's strategies holds, and its table of rules is made from the registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.server.strategy import aggregate
from flwr.serverapp.strategy.multikrum import select_multikrum

import flwr_robust
from flwr_robust import legacy

ROOT = Path(__file__).parent.parent
N, F, D = 17, 3, 50
ROUNDS = 100


def test_its_rules_are_those_of_the_registry():
    command, here = [sys.executable, "docs/hooks/readme.py", "--check"], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def rounds():
    return np.random.default_rng(0).standard_normal((ROUNDS, N, D))


def chosen_by_flower(X, count):
    """Rows that Flower's MultiKrum chooses, of which its Krum takes one and its Bulyan n - 2f."""
    contents = [RecordDict({"arrays": ArrayRecord({"w": Array(row)})}) for row in X]
    selected = select_multikrum(contents, F, count)
    return sorted(next(i for i, content in enumerate(contents) if content is one) for one in selected)


def differing(rounds, flowers, ours):
    """How often results differ by more than rounding."""
    return sum(not np.allclose(flowers(X), ours(X)) for X in rounds)


def flowers_bulyan(X):
    chosen = X[chosen_by_flower(X, N - 2 * F)]
    keep = N - 4 * F
    nearest = np.argsort(np.abs(chosen - np.median(chosen, axis=0)), axis=0)[:keep]
    return np.take_along_axis(chosen, nearest, axis=0).mean(axis=0)


def test_the_arguments_make_them_equal(rounds):
    krum = flwr_robust.Krum(num_malicious_nodes=F, num_neighbors=N - F - 2)
    several = flwr_robust.MultiKrum(num_malicious_nodes=F, num_nodes_to_select=5, num_neighbors=N - F - 2)
    bulyan = flwr_robust.Bulyan(num_malicious_nodes=F, selection_rule="multi-krum")
    older = legacy.Krum(num_malicious_clients=F, num_neighbors=N - F - 2)
    assert differing(rounds, lambda X: X[chosen_by_flower(X, 1)[0]], krum.rule) == 0
    assert differing(rounds, lambda X: X[chosen_by_flower(X, 5)].mean(axis=0), several.rule) == 0
    assert differing(rounds, flowers_bulyan, bulyan.rule) == 0
    assert differing(rounds, lambda X: aggregate.aggregate_krum([([x], 1) for x in X], F, 0)[0], older.rule) == 0


def test_without_them_they_choose_differently(rounds):
    krum = differing(rounds, lambda X: X[chosen_by_flower(X, 1)[0]], flwr_robust.Krum(num_malicious_nodes=F).rule)
    bulyan = differing(rounds, flowers_bulyan, flwr_robust.Bulyan(num_malicious_nodes=F).rule)

    def older(X):
        rows = [([row], 1) for row in X]
        return aggregate.aggregate_bulyan(rows, F, aggregate.aggregate_krum, to_keep=0)[0]

    older_bulyan = differing(rounds, older, legacy.Bulyan(num_malicious_clients=F, to_keep=0).rule)
    assert 0 < krum < 0.1 * ROUNDS
    assert bulyan > 0.8 * ROUNDS
    assert 0.3 * ROUNDS < older_bulyan < 0.6 * ROUNDS


def test_names_of_flowers(rounds):
    X = rounds[0]
    median, trimmed = flwr_robust.FedMedian(), flwr_robust.FedTrimmedAvg(beta=0.2)
    rows = [([row], 1) for row in X]
    np.testing.assert_allclose(median.rule(X), np.median(X, axis=0))
    np.testing.assert_allclose(trimmed.rule(X), aggregate.aggregate_trimmed_avg(rows, 0.2)[0])
    np.testing.assert_allclose(legacy.FedMedian().rule(X), aggregate.aggregate_median(rows)[0])
    np.testing.assert_allclose(legacy.FedTrimmedAvg(beta=0.2).rule(X), trimmed.rule(X))
