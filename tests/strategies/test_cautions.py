"""What summaries warn of before the first round."""

from __future__ import annotations

import logging

import pytest
from flwr.serverapp import strategy as flower

from flwr_robust import (
    ARC,
    LASA,
    NNM,
    Bucketing,
    DnC,
    GeometricMedian,
    Krum,
    LFighter,
    Mean,
    Median,
    MixTailor,
    StaticClipping,
    TrimmedMean,
    legacy,
    rules,
)


def warnings_of(strategy, caplog):
    """Warnings in a strategy's summary."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        if isinstance(strategy, legacy.RobustFedAvg):
            strategy.initialize_parameters(None)
        else:
            strategy.summary()
    found = [record.getMessage().strip("\t │") for record in caplog.records]
    return [text for text in found if not text.startswith("No initial_parameters")]


NOTHING_TO_SAY = [
    lambda: ARC(NNM(TrimmedMean(num_malicious_nodes=2, min_train_nodes=5))),
    lambda: Median(min_train_nodes=3),
    lambda: GeometricMedian(num_malicious_nodes=2, min_train_nodes=5),
    lambda: Mean(),
    lambda: ARC(DnC(num_malicious_nodes=1, min_train_nodes=3)),
    lambda: StaticClipping(LASA(min_train_nodes=3), max_norm=1.0),
    lambda: Bucketing(Median(min_train_nodes=5), s=2),
    lambda: NNM(flower.FedAvg(min_train_nodes=5), num_malicious_nodes=2),
]


@pytest.mark.parametrize("make", NOTHING_TO_SAY)
def test_nothing_to_say(make, caplog):
    assert warnings_of(make(), caplog) == []


@pytest.mark.parametrize(
    ("make", "handed_on", "needed"),
    [
        (lambda: Krum(num_malicious_nodes=2), 2, 5),
        (lambda: ARC(NNM(TrimmedMean(num_malicious_nodes=3, min_train_nodes=6))), 6, 7),
        (lambda: NNM(flower.FedAdam(), num_malicious_nodes=1), 2, 3),
        (lambda: Krum(num_malicious_nodes=0.2, fraction_train=0.1, min_train_nodes=0), 0, 1),
        (lambda: legacy.RobustFedAvg(rules.Krum(2), min_fit_clients=4), 4, 5),
    ],
)
def test_fewer_replies_than_the_chain_needs(make, handed_on, needed, caplog):
    (warning,) = [text for text in warnings_of(make(), caplog) if "may hand on" in text]
    assert warning == (
        f"Flower may hand on {handed_on} replies, but the chain needs {needed}: "
        f"set min_train_nodes (min_fit_clients) to {needed} or more"
    )


@pytest.mark.parametrize(
    ("make", "reach", "liars", "twice"),
    [
        (lambda: Median(), "2 replies Median", "1 malicious node", 2),
        (lambda: legacy.RobustFedAvg(), "2 replies Median", "1 malicious node", 2),
        (lambda: GeometricMedian(num_malicious_nodes=2, min_train_nodes=4), "4 replies Geo", "2 malicious nodes", 4),
        (
            lambda: Bucketing(Median(min_train_nodes=3), s=3),
            "3 replies, which come to 1 rows, M",
            "1 malicious node",
            2,
        ),
        (lambda: Median(num_malicious_nodes=3, min_train_nodes=4), "4 replies Median", "3 malicious nodes", 6),
        (
            lambda: Bucketing(Median(min_train_nodes=4), s=2),
            "4 replies, which come to 2 rows, M",
            "1 malicious node",
            2,
        ),
        (lambda: StaticClipping(LFighter(), max_norm=1.0), "2 replies LFighter", "1 malicious node", 2),
    ],
)
def test_a_rule_that_runs_on_so_few_rows_that_it_protects_from_nothing(make, reach, liars, twice, caplog):
    (warning,) = warnings_of(make(), caplog)
    assert warning.startswith(f"At {reach}")
    assert f"no rule tolerates {liars} there" in warning
    assert f"so that more than {twice} rows reach it" in warning


@pytest.mark.parametrize(
    "make",
    [
        lambda: DnC(num_malicious_nodes=1, min_train_nodes=3),
        lambda: LASA(min_train_nodes=3),
        lambda: NNM(LFighter(num_malicious_nodes=1, min_train_nodes=3)),
        lambda: MixTailor(pool=[rules.Median(), rules.LASA()], min_train_nodes=3),
        lambda: legacy.RobustFedAvg(rules.DnC(1), min_fit_clients=3),
    ],
)
def test_rules_from_which_a_huge_update_hides_large_ones(make, caplog):
    (warning,) = warnings_of(make(), caplog)
    assert warning.endswith(
        "does not see large updates beside a far larger one: put ARC or StaticClipping in front of it"
    )
