"""A round takes little memory beside the replies, whatever the rule and whatever it remembers."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest

import flwr_robust
from flwr_robust import ARC, NNM, Bucketing, Krum, MixTailor, RobustStrategy, SparseFed, TrimmedMean, rules
from tests.flower_messages import record, reply

N, D, F = 17, 400_000, 2
SPLIT = D - 1000


def trained_by_the_server(arrays, server_round):
    return arrays


def named():
    """Return each strategy that has a rule of its own."""
    for name, value in vars(flwr_robust).items():
        if isinstance(value, type) and issubclass(value, RobustStrategy) and value is not RobustStrategy:
            # MixTailor's own pool would have another rule, and its kernels, in the round that is measured.
            options = {"pool": [rules.Krum(F)]} if value is MixTailor else {}
            if "root" in getattr(value, "rule_class", rules.Mean).requires:
                options["root_fn"] = trained_by_the_server
            yield pytest.param(partial(value, num_malicious_nodes=F, **options), id=name)


CHAINS = [
    pytest.param(lambda: ARC(NNM(Krum(num_malicious_nodes=F))), id="arc+nnm+krum"),
    pytest.param(lambda: ARC(NNM(TrimmedMean(num_malicious_nodes=F))), id="arc+nnm+trimmed-mean"),
    pytest.param(lambda: ARC(Bucketing(SparseFed(num_malicious_nodes=F), seed=0)), id="arc+bucketing+sparsefed"),
]


@pytest.mark.parametrize("make", [*named(), *CHAINS])
def test_a_tenth_of_the_replies_and_a_model(make):
    values = np.random.default_rng(0).standard_normal(D, dtype=np.float32)
    rolled = [np.roll(values, number) for number in range(N)]
    replies = [
        reply(number, record({"w": row[:SPLIT].reshape(10, -1), "b": row[SPLIT:]})) for number, row in enumerate(rolled)
    ]
    strategy = make()
    # The first round compiles kernels, and fills what a rule remembers.
    strategy.aggregate_train(1, replies)
    tracemalloc.start()
    arrays, _ = strategy.aggregate_train(2, replies)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrays is not None
    assert not strategy.reports[-1].skipped
    # What root_fn makes is a model as well.
    models = 2 if strategy.root_fn else 1
    assert peak <= 0.1 * N * D * 4 + models * D * 4
