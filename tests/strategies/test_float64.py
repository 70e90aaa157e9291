"""Models in float64, as scikit-learn and JAX have them: every rule, on real messages, beside values beyond float32."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord

from flwr_robust import ARC, NNM, Bulyan, DnC, GeometricMedian, Krum, LFighter, MultiKrum, RobustStrategy
from tests.flower_messages import FakeGrid, flat, models, record, reply, values
from tests.rules import references
from tests.rules.chains import RULES, make

N, F = 11, 2


def a_round(strategy, sizes=None, beyond=0):
    """Return a round's float64 updates and what a strategy makes of them; the last nodes send values beyond float32."""
    sent, *updates = models(N + 1, dtype=np.float64)
    for update, size in zip(updates, sizes or [1.0] * N, strict=True):
        for value in update.values():
            value *= size
    grid = FakeGrid(list(range(N + beyond)), lambda node, message: None)
    asked = list(strategy.configure_train(1, record(sent), ConfigRecord(), grid))
    assert len(asked) == N + beyond
    updates += [{name: np.full_like(value, 1e200) for name, value in sent.items()}] * beyond
    replies = [reply(k, {name: sent[name] + update[name] for name in sent}) for k, update in enumerate(updates)]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert len(strategy.reports[-1].quarantined) == beyond
    made = values(arrays)
    assert {value.dtype for value in made.values()} == {np.dtype(np.float64)}
    moved = flat({name: made[name] - sent[name] for name in sent})
    rows = np.array([flat({name: sent[name] + update[name] - sent[name] for name in sent}) for update in updates[:N]])
    return rows, moved


def lfighter(X):
    return references.lfighter(X, X.shape[1] - 35, 5, 7)


CASES = {
    "lfighter": (lambda: LFighter(), lfighter),
    "lfighter by name": (lambda: LFighter(output_layer="fc.weight"), lfighter),
    "dnc": (lambda: DnC(num_malicious_nodes=F, iterations=1, seed=1), lambda X: references.dnc(X, F)),
    "dnc of three": (lambda: DnC(num_malicious_nodes=F, iterations=3, seed=1), lambda X: references.dnc(X, F)),
    "bulyan": (lambda: Bulyan(num_malicious_nodes=F), lambda X: references.bulyan(X, F)),
    "krum p=3": (lambda: Krum(num_malicious_nodes=F, p=3), lambda X: references.krum(X, F, p=3)),
    "multi-krum p=1": (lambda: MultiKrum(num_malicious_nodes=F, p=1), lambda X: references.multi_krum(X, F, p=1)),
    "arc+nnm+krum": (
        lambda: ARC(NNM(Krum(num_malicious_nodes=F))),
        lambda X: references.krum(references.nnm(references.arc(X, F), F), F),
    ),
} | {
    f"bulyan {selection} p={p}": (
        lambda selection=selection, p=p: Bulyan(num_malicious_nodes=F, selection=selection, p=p),
        lambda X, selection=selection, p=p: references.bulyan(X, F, selection, p),
    )
    for selection in ("krum", "mean", "median", "geometric-median", "multi-krum")
    for p in (1, 1.5, 3, 8, np.inf)
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_its_aggregate_is_that_of_its_reference(name, size):
    make, expected = CASES[name]
    X, moved = a_round(make(), [size] * N)
    scale = np.abs(X).max()
    # What was sent is of size 1, and takes the last digits.
    assert np.abs(moved - expected(X)).max() <= 1e-9 * scale + 1e-14


@pytest.mark.parametrize("spec", [*RULES, "dnc iterations=3 subsample=20", "bulyan p=3", "geometric-median p=3"])
def test_liars_within_and_beyond_float32_do_not_stop_it(spec):
    rule = make(spec, F)
    # Of a root update that points where nobody else does, these make nothing.
    strategy = RobustStrategy(rule, root_fn=(lambda arrays, _: arrays) if "root" in rule.requires else None)
    X, moved = a_round(strategy, [1.0] * (N - 2) + [1e37, 1e25], beyond=2)
    assert np.isfinite(moved).all()
    assert strategy.reports[-1].skipped is None
    # A line through values of three sizes leads ResidualReweighting far away.
    if spec not in ("mean", "residual-reweighting") and not rule.is_masked:
        assert np.abs(moved).max() <= 10 * np.abs(X[: N - 2]).max()


def test_a_float64_model_moves_by_less_than_float32_can_tell():
    X, moved = a_round(GeometricMedian(), [1e-9] * N)
    assert np.abs(moved - references.geometric_median(X)).max() <= 1e-14
