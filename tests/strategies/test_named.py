"""The named strategies: their rules, and the arguments that they take."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from flwr.app import MetricRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy

import flwr_robust
from flwr_robust import (
    FABA,
    LASA,
    MDA,
    Bulyan,
    CenteredClipping,
    DnC,
    GeometricMedian,
    Krum,
    LFighter,
    MeaMed,
    Mean,
    Median,
    MixTailor,
    MultiKrum,
    RobustStrategy,
    SignGuard,
    SparseFed,
    TrimmedMean,
    rules,
)
from tests.flower_messages import SHAPES, flat, models, reply, values

RANDOM = {SignGuard: {"seed": 3}, MixTailor: {"seed": 3}, DnC: {"seed": 3}}

NAMED = {
    Mean: rules.Mean(),
    Median: rules.Median(),
    TrimmedMean: rules.TrimmedMean(2),
    MeaMed: rules.MeaMed(2),
    GeometricMedian: rules.GeometricMedian(),
    CenteredClipping: rules.CenteredClipping(),
    SparseFed: rules.SparseFed(),
    Krum: rules.Krum(2),
    MultiKrum: rules.MultiKrum(2),
    MDA: rules.MDA(2),
    Bulyan: rules.Bulyan(2),
    FABA: rules.FABA(2),
    DnC: rules.DnC(2),
    SignGuard: rules.SignGuard(),
    LFighter: rules.LFighter(),
    LASA: rules.LASA(),
    MixTailor: rules.MixTailor(f=2),
}


def test_every_rule_has_a_strategy_of_its_name():
    made = {type(rule).__name__ for rule in NAMED.values()} | {"NNM", "ARC", "Bucketing", "StaticClipping"}
    assert {stage.__name__ for stage in rules.REGISTRY.values()} == made
    for name in made:
        assert issubclass(getattr(flwr_robust, name), Strategy)


@pytest.mark.parametrize("strategy", NAMED, ids=lambda s: s.__name__)
def test_named_strategy_runs_its_rule(strategy):
    assert issubclass(strategy, FedAvg)
    assert repr(strategy(num_malicious_nodes=2).rule) == repr(NAMED[strategy])
    made = strategy(num_malicious_nodes=2, fraction_evaluate=0.5, **RANDOM.get(strategy, {}))
    assert made.num_malicious_nodes == 2
    sent = models(11)
    arrays, metrics = made.aggregate_train(1, [reply(i, model) for i, model in enumerate(sent)])
    rule = strategy(num_malicious_nodes=2, **RANDOM.get(strategy, {})).rule
    # The layers that a rule sees are the arrays, under their names.
    expected = rule(np.stack([flat(model) for model in sent]), layers=SHAPES)
    assert list(arrays) == list(SHAPES)
    assert {k: v.shape for k, v in values(arrays).items()} == SHAPES
    assert np.allclose(flat(values(arrays)), expected, atol=1e-6)
    assert metrics["robust/num-accepted"] == 11


@pytest.mark.parametrize("strategy", NAMED, ids=lambda s: s.__name__)
def test_named_strategy_takes_all_of_fedavgs_arguments(strategy):
    options = {
        "fraction_train": 0.5,
        "fraction_evaluate": 0.25,
        "min_train_nodes": 3,
        "min_evaluate_nodes": 4,
        "min_available_nodes": 5,
        "weighted_by_key": "weight",
        "arrayrecord_key": "model",
        "configrecord_key": "settings",
        "train_metrics_aggr_fn": lambda contents, key: MetricRecord({"trained": len(contents)}),
        "evaluate_metrics_aggr_fn": lambda contents, key: MetricRecord({"evaluated": len(contents)}),
    }
    made = strategy(**options)
    assert {key: getattr(made, key) for key in options} == options
    assert made.num_malicious_nodes == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RobustStrategy("krum"), "give a rule or chain of flwr_robust.rules"),
        (lambda: RobustStrategy(rules.NNM(1)), "give a rule or chain"),
        (lambda: Krum(num_malicious_nodes=-1), "whole number of rows"),
        (lambda: Median(num_malicious_nodes=0.7), "whole number of rows"),
        (lambda: Median(server_learning_rate=0), "server_learning_rate = 0; give a finite number above 0"),
        (lambda: Median(threads=0), "threads = 0; give None or a whole number above 0"),
        (lambda: MultiKrum(m=2, num_nodes_to_select=3), "two names of one number"),
        (lambda: MultiKrum(num_nodes_to_select=0), "m = 0; give None or a whole number above 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("ours", "twin"),
    [
        (Mean, flower.FedAvg),
        (Median, flower.FedMedian),
        (TrimmedMean, flower.FedTrimmedAvg),
        (Krum, flower.Krum),
        (MultiKrum, flower.MultiKrum),
        (Bulyan, flower.Bulyan),
    ],
)
def test_positions_are_those_of_flowers_twin(ours, twin):
    names = [name for name in inspect.signature(twin.__init__).parameters if name != "self"]
    numbers = [0.5, 0.25, 6, 7, 8, 2, 3][: 5 + ("num_malicious_nodes" in names) + ("num_nodes_to_select" in names)]
    arguments = [*numbers, "weight", "model", "settings"]
    made, expected = ours(*arguments), twin(*arguments)
    for name in names[: len(arguments)]:
        assert getattr(made, name) == getattr(expected, name), name
    with pytest.raises(TypeError, match="fraction_train by position and by name"):
        ours(0.5, fraction_train=0.5)
    with pytest.raises(TypeError, match="takes at most"):
        ours(*range(20))


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="min_fit_clients"):
        Median(min_fit_clients=2)
