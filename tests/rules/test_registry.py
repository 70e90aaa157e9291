"""Chains by name."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from flwr_robust import rules
from flwr_robust.rules.registry import collect


def test_rules_come_first_and_each_kind_in_alphabetical_order():
    names = list(rules.REGISTRY)
    assert names[-5:] == ["arc", "bucketing", "nnm", "similarity-filter", "static-clipping"]
    assert names[:-5] == sorted(names[:-5])
    assert all(issubclass(rules.REGISTRY[name], rules.Rule) for name in names[:-5])


def test_classes_that_name_their_source_are_collected():
    given = {
        "Mine": type("Mine", (rules.Median,), {"source": "a note"}),
        "Helper": type("Helper", (rules.Median,), {}),
        "Median": rules.Median,
        "chain": rules.chain,
    }
    with patch.dict(rules.REGISTRY, clear=True):
        collect(given)
        assert {"median": rules.Median, "mine": given["Mine"]} == rules.REGISTRY
        assert repr(rules.from_spec("mine")) == "Mine()"


def test_a_chain_by_name():
    made = rules.from_spec("arc + NNM+trimmed-mean", f=4)
    assert repr(made) == "chain(ARC(f=4), NNM(f=4), TrimmedMean(f=4))"
    assert repr(rules.from_spec("median", f=4)) == "Median()"
    assert repr(rules.from_spec("mean", f=3)) == "Mean()"


def test_arguments_reach_their_stage():
    made = rules.from_spec("bucketing+multi-krum", f=2, args={"s": 2, "multi_krum.m": 3, "bucketing.seed": 7})
    assert repr(made) == "chain(Bucketing(s=2, seed=7), MultiKrum(f=2, m=3))"
    assert repr(rules.from_spec("nnm+krum", f=2, args={"nnm.f": 1})) == "chain(NNM(f=1), Krum(f=2))"


@pytest.mark.parametrize(
    ("spec", "args", "message"),
    [
        ("krumm", {}, "did you mean 'krum'"),
        ("", {}, "choose from aksel, auror"),
        ("nnm", {}, "end it with a rule, as in 'nnm.trimmed-mean'"),
        ("krum+nnm", {}, "which comes last"),
        ("krum", {"s": 1}, "no stage of 'krum' takes 's'; choose from krum.f, krum.num_neighbors, krum.p"),
        ("mean", {"f": 1}, "none of them takes an argument"),
        ("nnm+krum", {"arc.f": 1}, "no stage of 'nnm.krum' takes 'arc.f'"),
        ("static-clipping+mean", {}, "missing 1 required positional argument: 'max_norm'"),
    ],
)
def test_errors_say_what_is_allowed(spec, args, message):
    with pytest.raises(ValueError, match=message):
        rules.from_spec(spec, f=1, args=args)


def test_parse_args():
    text = "max_norm=2.0, bucketing.s=2 choices=[1, 2.5] name=abc num-neighbors=3"
    assert rules.parse_args(text) == {
        "max_norm": 2.0,
        "bucketing.s": 2,
        "choices": [1, 2.5],
        "name": "abc",
        "num_neighbors": 3,
    }
    assert rules.parse_args("  ") == {}


@pytest.mark.parametrize("text", ["tau", "tau=", "=2", "a=1 a=2"])
def test_arguments_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="give name=value once each"):
        rules.parse_args(text)
