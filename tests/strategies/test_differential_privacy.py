"""Flower's differential-privacy wrappers inside and outside ours: what ``docs/deploy.md`` says of them."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from flwr.supercore.privacy_accounting import SamplingMethod

from flwr_robust import ARC, NNM, TrimmedMean, rules
from tests.flower_messages import FakeGrid, error, record, reply, trainer, values

NODES = 7
NORM = 0.5  # the clipping norm of the differential-privacy wrapper


def vectors(d=30):
    """Honest updates of norm 1, and the last one of norm 100."""
    X = np.random.default_rng(1).standard_normal((NODES, d)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    X[-1] *= 100
    return X


def clipped(X):
    return X * np.minimum(1, NORM / np.linalg.norm(X, axis=1, keepdims=True))


def private(strategy: Strategy, noise=0.0, **options):
    return DifferentialPrivacyServerSideFixedClipping(strategy, noise, NORM, NODES, **options)


def outside(noise=0.0):
    return private(ARC(NNM(TrimmedMean(num_malicious_nodes=1))), noise)


def inside(noise=0.0):
    return ARC(NNM(private(FedAvg(), noise), num_malicious_nodes=1))


def aggregated(strategy, replies: list[Message], d=30):
    """Let the strategy ask its nodes, and aggregate these replies to the model zero."""
    grid = FakeGrid(list(range(NODES)), trainer(lambda node: 0))
    list(strategy.configure_train(1, record({"w": np.zeros(d, np.float32)}), ConfigRecord(), grid))
    arrays, _ = strategy.aggregate_train(1, replies)
    return None if arrays is None else values(arrays)["w"]


def replies(X) -> list[Message]:
    return [reply(node, {"w": x}) for node, x in enumerate(X)]


def by_hand(make, X):
    if make is outside:
        return rules.chain(rules.ARC(1), rules.NNM(1), rules.TrimmedMean(1))(clipped(X))
    return clipped(rules.chain(rules.ARC(1), rules.NNM(1))(X)).mean(axis=0)


@pytest.mark.parametrize("make", [outside, inside])
def test_the_outer_wrapper_acts_first_and_the_noise_comes_last(make):
    X = vectors()
    assert np.allclose(aggregated(make(), replies(X)), by_hand(make, X), atol=1e-6)
    X = vectors(20_000)
    noise = aggregated(make(noise=1.0), replies(X), 20_000) - by_hand(make, X)
    assert noise.std() == pytest.approx(NORM / NODES, rel=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DifferentialPrivacyServerSideAdaptiveClipping(ARC(NNM(TrimmedMean(num_malicious_nodes=1))), 0.1, NODES),
        lambda: ARC(
            NNM(DifferentialPrivacyServerSideAdaptiveClipping(FedAvg(), 0.1, NODES), num_malicious_nodes=1),
        ),
    ],
    ids=["outside", "inside"],
)
def test_adaptive_clipping_runs_in_both_orders(make):
    grid = FakeGrid(list(range(NODES)), trainer(lambda node: np.float32(1000 if node == 0 else 0.1 + node / 100)))
    result = make().start(grid=grid, initial_arrays=record({"w": np.zeros(3, np.float32)}), num_rounds=3)
    assert np.all(np.abs(values(result.arrays)["w"]) < 1)
    assert np.all(values(result.arrays)["w"] != 0)


HOSTILE = {
    "an error": lambda: error(6),
    "another shape": lambda: reply(6, {"w": np.zeros(31, np.float32)}),
    "no update": lambda: reply(6, {"w": np.zeros(30, np.float32)}),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_inside_ours_no_single_reply_stops_it(hostile):
    strategy = inside()
    assert np.linalg.norm(aggregated(strategy, [*replies(vectors()[:6]), hostile()])) > 0.1
    assert strategy.reports[-1].skipped is None


def test_outside_ours_one_reply_stops_it():
    # Flower's wrapper is then the first to open what nodes send.
    good = replies(vectors()[:6])
    assert aggregated(outside(), [*good, HOSTILE["an error"]()]) is None
    with pytest.raises(ValueError, match="broadcast"):
        aggregated(outside(), [*good, HOSTILE["another shape"]()])
    with pytest.raises(ZeroDivisionError):
        aggregated(outside(), [*good, HOSTILE["no update"]()])


def test_without_mixing_an_update_of_zero_skips_the_round():
    strategy = ARC(private(FedAvg()), num_malicious_nodes=1)
    aggregated(strategy, [*replies(vectors()[:6]), HOSTILE["no update"]()])
    assert "ZeroDivisionError" in strategy.reports[-1].skipped


def test_flowers_accountant_counts_for_fedavg_alone():
    accountant = Mock()
    accountant.config.sampling_method = SamplingMethod.NO_AMPLIFICATION
    with pytest.raises(ValueError, match=r"FedAvg\.aggregate_train"):
        private(TrimmedMean(num_malicious_nodes=1), noise=1.0, accountant=accountant)


def test_local_differential_privacy_at_the_nodes_goes_with_any_strategy():
    step = trainer(lambda node: np.float32(-5 if node == 0 else 0.1))
    apps = {}
    for node in range(NODES):
        # Node 0 lies, and leaves the mod out.
        app = ClientApp(mods=[LocalDpMod(1.0, 0.01, 1.0, 1e-3)] if node else [])
        app.train()(lambda message, context, node=node: step(node, message))
        apps[node] = app

    def answer(node, message):
        if message.metadata.message_type != "train":
            return step(node, message)
        return apps[node](message, Context(1, node, {}, RecordDict(), {}))

    strategy = ARC(NNM(TrimmedMean(num_malicious_nodes=1)))
    grid = FakeGrid(list(range(NODES)), answer)
    result = strategy.start(grid=grid, initial_arrays=record({"w": np.zeros(100, np.float32)}), num_rounds=3)
    assert np.mean(values(result.arrays)["w"]) == pytest.approx(0.3, abs=0.05)
