"""What strategies of Flower's choose and make of rows, on real messages."""

from __future__ import annotations

import gc
from unittest.mock import patch

import numpy as np
from flwr.app import MetricRecord

from tests.flower_messages import flat, reply, values


def aggregate(strategy, X):
    """Return the aggregate of the rows (n, d), and which of them it is made of."""
    chosen = []

    def note(contents, key):
        chosen.extend(content["metrics"]["row"] for content in contents)
        return MetricRecord()

    strategy.train_metrics_aggr_fn = note
    replies = [
        reply(i, {"a": row[:5].copy(), "b": row[5:].reshape(2, -1).copy()}, {"num-examples": 1, "row": i})
        for i, row in enumerate(X)
    ]
    with patch.object(gc, "collect"):  # Flower calls it for each array that it reads
        arrays, _ = strategy.aggregate_train(1, replies)
    return flat(values(arrays)).astype(np.float64), sorted(chosen)


def rounds(*sizes):
    """Draw rows for each (n, f), some of them far out and some of them alike."""
    rng = np.random.default_rng(5)
    for n, f in sizes:
        for spread in (0.0, 0.3, 1.0, 3.0):
            X = rng.standard_normal((n, 25))
            X[:f] += spread * rng.standard_normal(25)
            X[-f:] *= 1.0 + spread
            yield X[rng.permutation(n)], f
