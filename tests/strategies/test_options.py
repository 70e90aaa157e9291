"""The keyword arguments that all strategies take: Flower's, where Flower keeps them, and ours."""

from __future__ import annotations

import inspect

import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy.multikrum import select_multikrum

import flwr_robust
from flwr_robust import ARC, NNM, Bulyan, FedMedian, FedTrimmedAvg, Krum, Mean, Median, MultiKrum, TrimmedMean, rules
from flwr_robust.messages.replies import MedianMetrics
from flwr_robust.strategies.options import FedAvgOptions, OwnOptions, fedavg_options, own_options

GIVEN = {"fraction_train": 0.1, "fraction_evaluate": 0.2, "min_train_nodes": 3, "min_evaluate_nodes": 4}
GIVEN |= {"min_available_nodes": 5, "weighted_by_key": "w", "arrayrecord_key": "a", "configrecord_key": "c"}
GIVEN |= {"train_metrics_aggr_fn": object(), "evaluate_metrics_aggr_fn": object()}
OWN = {"num_malicious_nodes": 2, "num_nodes_to_select": 3, "beta": 0.25, "selection_rule": select_multikrum}
STRATEGIES = [
    getattr(flwr_robust, stage.__name__) for stage in rules.REGISTRY.values() if issubclass(stage, rules.Rule)
]


def test_the_keywords_are_flowers():
    assert list(FedAvgOptions.__annotations__) == list(inspect.signature(flower.FedAvg).parameters) == list(GIVEN)
    assert not set(FedAvgOptions.__annotations__) & set(OwnOptions.__annotations__)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_keyword_arrives_where_flower_keeps_it(strategy):
    expected = vars(flower.FedAvg(**GIVEN))
    assert {name: vars(strategy(**GIVEN))[name] for name in expected} == expected


def test_metrics_are_medians_unless_a_function_is_given():
    mine = object()
    chosen = fedavg_options({"train_metrics_aggr_fn": None, "evaluate_metrics_aggr_fn": mine, "threads": 2})
    assert isinstance(chosen["train_metrics_aggr_fn"], MedianMetrics)
    assert chosen["evaluate_metrics_aggr_fn"] is mine
    assert own_options({"fraction_train": 0.5, "threads": 2}) == {"threads": 2}


NAMESAKES = [
    (Mean, flower.FedAvg),
    (FedMedian, flower.FedMedian),
    (TrimmedMean, flower.FedAvg),
    (FedTrimmedAvg, flower.FedTrimmedAvg),
    (Krum, flower.Krum),
    (MultiKrum, flower.MultiKrum),
    (Bulyan, flower.Bulyan),
]


@pytest.mark.parametrize(("ours", "flowers"), NAMESAKES)
def test_positions_and_names_are_those_of_flowers_strategy(ours, flowers):
    names = list(inspect.signature(flowers).parameters)
    arguments = {name: (GIVEN | OWN)[name] for name in names}
    by_position, by_name, expected = ours(*arguments.values()), ours(**arguments), flowers(**arguments)
    for name in names:
        if name not in ("beta", "selection_rule"):
            assert getattr(by_position, name) == getattr(by_name, name) == getattr(expected, name), name
    assert repr(by_position.rule) == repr(by_name.rule)
    assert ("beta" in names) == (repr(by_name.rule) == "TrimmedMean(f=0.25)")
    assert ("selection_rule" in names) == ("multi-krum" in repr(by_name.rule))
    assert ours().fraction_train == flowers().fraction_train
    with pytest.raises(TypeError, match="fraction_train by position and by name"):
        ours(0.5, fraction_train=0.5)
    with pytest.raises(TypeError, match=f"takes at most {len(names)} positional arguments"):
        ours(*range(20))


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="min_fit_clients"):
        Median(min_fit_clients=2)
    with pytest.raises(TypeError, match=r"NNM was given 'server_momentum', which wrappers do not take; .*threads"):
        NNM(Median(), server_momentum=0.5)


def test_wrappers_run_where_the_wrapped_strategy_does_unless_told_otherwise():
    inner = Median(num_malicious_nodes=1, threads=3)
    assert [ARC(inner).threads, ARC(inner, threads=2).threads, ARC(inner, threads=None).threads] == [3, 2, None]
    foreign = ARC(flower.FedAvg(), num_malicious_nodes=1, threads=3)
    assert [foreign.threads, NNM(foreign).threads, NNM(foreign, threads=2).threads] == [3, 3, 2]


def test_a_wrapper_and_what_it_wraps_share_attributes():
    inner = Median(num_malicious_nodes=1)
    outer = NNM(ARC(inner))
    outer.fraction_train, outer.mine = 0.25, "mine"
    inner.server_learning_rate = 0.5
    assert (inner.fraction_train, outer.server_learning_rate, outer.mine) == (0.25, 0.5, "mine")
    assert not hasattr(inner, "mine")
    foreign = flower.FedAdam()
    outer = ARC(foreign, num_malicious_nodes=1)
    outer.eta = 0.5
    assert foreign.eta == 0.5
    assert outer.strategy is foreign


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Median(server_learning_rate=0), "server_learning_rate = 0; give a finite number above 0"),
        (lambda: Median(threads=0), "Median was given threads = 0; give None or a whole number above 0"),
        (lambda: ARC(Median(num_malicious_nodes=1), threads=0), "ARC was given threads = 0"),
        (lambda: ARC(Median(num_malicious_nodes=1), suspicion=2), "ARC was given suspicion = 2"),
        (lambda: Median(device="abacus"), "Median was given device = 'abacus'"),
        (lambda: TrimmedMean(num_malicious_nodes=1, exclude_after=0.5), "TrimmedMean was given exclude_after = 0.5"),
    ],
)
def test_wrong_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
