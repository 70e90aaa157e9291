"""What ``docs/deploy.md`` says of rules, in numbers and names."""

from __future__ import annotations

import re

import pytest

from flwr_robust import rules
from flwr_robust.rules.base import Rule
from flwr_robust.rules.registry import REGISTRY
from tests.deployment.recipe import FENCE, ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = [
    code for language, code in FENCE.findall(re.sub(r"^    ", "", PAGE, flags=re.MULTILINE)) if language == "python"
]


def test_the_table_of_kappa():
    numbers, coefficients = (
        [float(cell) for cell in re.search(rf"^ *\| {name} \|(.*)\|$", PAGE, re.MULTILINE)[1].split("|")]
        for name in ("f", "kappa")
    )
    assert len(numbers) == len(coefficients) == 5
    for f, coefficient in zip(map(int, numbers), coefficients, strict=True):
        chain = rules.chain(rules.ARC(f), rules.NNM(f), rules.TrimmedMean(f))
        assert rules.kappa(chain, 20, f) == pytest.approx(coefficient, rel=0.01)


def test_rules_that_need_no_f():
    (named,) = re.findall(r"\*\*If you do not know f\*\*: without it work (.*?)\. Of these", " ".join(PAGE.split()))
    without = {rule.__name__ for rule in REGISTRY.values() if issubclass(rule, Rule) and not rule.takes_f}
    assert set(re.findall(r"`(\w+)`", named)) == without


def test_the_odds_of_asking_too_many_liars():
    (block,) = [code for code in BLOCKS if "hypergeom" in code]
    found = {}
    exec(block, found)
    assert found["once"] == pytest.approx(0.0039, abs=5e-5)
    assert found["ever"] == pytest.approx(0.33, abs=5e-3)


def test_differential_privacy_as_it_is_written():
    (block,) = [code for code in BLOCKS if "DifferentialPrivacy" in code]
    found = {}
    exec(block, found)
    assert found["outside"].strategy.num_malicious_nodes == 2
    assert found["inside"].num_malicious_nodes == 2
