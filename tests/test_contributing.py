"""The rule that CONTRIBUTING.md adds, step by step, is one that can be added."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import flwr_robust
from flwr_robust import rules
from flwr_robust.rules import registry
from flwr_robust.strategies.named import RuleStrategy
from tests.rules.data import KINDS, assert_close, matrix

BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(), re.M | re.S
)
NAME = "flwr_robust.rules.winsorized_mean"


@pytest.fixture
def added(monkeypatch):
    """What its blocks define, as if they stood in their files."""
    rule_file, line, reference, test, strategy = BLOCKS
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    exec(rule_file, module.__dict__)
    imported = {}
    exec(line, imported)
    monkeypatch.setattr(rules, "WinsorizedMean", imported["WinsorizedMean"], raising=False)
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))
    registry.collect(vars(rules))
    assert repr(flwr_robust.WinsorizedMean(num_malicious_nodes=1).rule) == "WinsorizedMean(f=1)"
    names = {"np": np, "rules": rules, "RuleStrategy": RuleStrategy, "__name__": "added"}
    for block in (reference, test, strategy):
        exec(block, names)
    return names | {"module": module}


def test_its_steps(added):
    assert registry.from_spec("arc+nnm+winsorized-mean", f=2).last.name == "winsorized-mean"
    failed, tried = doctest.testmod(added["module"])
    assert (failed, tried > 0) == (0, True)
    added["test_by_hand"]()
    strategy = added["WinsorizedMean"](num_malicious_nodes=2)
    assert repr(strategy.rule) == "WinsorizedMean(f=2)"
    assert "num_malicious_nodes : int or float" in type(strategy).__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_its_rule_gives_what_its_reference_gives(added, kind):
    for f in range(4):
        X = matrix(kind, 8, 33, seed=1, dtype="f4")
        assert_close(rules.WinsorizedMean(f)(X), added["winsorized_mean"](X, f), X)
