"""Rounds with nodes that come and go, for rules that remember them."""

from __future__ import annotations

import numpy as np

from tests.rules.data import matrix


def rounds_of(count, kind="normal", n=7, d=24, dtype=np.float64):
    """Return (ids, X, model) of each round: nodes that are there, some of them new, in another order each time."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(count):
        there = rng.permutation(n + 2)[: n - number % 2].tolist()
        ids = [f"node {who}" if who % 2 else who for who in there]
        X = matrix(kind, len(ids), d, seed=number, dtype=dtype)
        made.append((ids, X, rng.standard_normal(d).astype(dtype)))
    return made


def outputs_of(rule, rounds, **given):
    """Call a rule on each round with its side inputs."""
    return [rule(X, ids=ids, model=model, **given) for ids, X, model in rounds]
