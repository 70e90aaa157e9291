"""Rules that are not this package's: by a place in a module, from plugins, registered, and plain functions."""

from __future__ import annotations

import logging
import re
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from flwr_robust import ARC, RobustStrategy, rules
from flwr_robust.rules import plugins, registry
from tests.flower_messages import FakeGrid, record, trainer, values

MODULE = """
import numpy as np
from flwr_robust import rules

class Middle(rules.LinearRule):
    requirement, takes_f = "n >= 1", False
    def __init__(self, place=0):
        super().__init__()
        self.place = place
    def weights(self, rows, f):
        return np.eye(rows.count)[self.place]

class Halving(rules.PreAggregation):
    takes_f = False
    def transform(self, rows, f, trace):
        return rows.scale(np.full(rows.count, 0.5))

def halfway(X):
    return (X.min(axis=0) + X.max(axis=0)) / 2

def broken(X):
    raise ZeroDivisionError("no rows")

number = 5
"""
X = np.array([[1.0, 2.0], [3.0, 4.0], [2.0, 0.0]])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module in the folder in which a command is called."""
    (tmp_path / "my_rules.py").write_text(MODULE)
    (tmp_path / "wrong_rules.py").write_text("import nothing_of_that_name")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield
    sys.path[:] = before
    for name in ("my_rules", "wrong_rules"):
        sys.modules.pop(name, None)


def test_a_place_in_a_module_is_a_name(mine):
    assert rules.from_spec("my_rules:Middle", args={"place": 2})(X).tolist() == [2, 0]
    assert rules.from_spec("my_rules:Halving+my_rules:Middle")(X).tolist() == [0.5, 1]
    assert rules.from_spec("arc+my_rules:halfway", f=1)(X).tolist() == [1.5, 1.0]
    assert rules.from_spec("my_rules:halfway")(X).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("my_rules:Midle", "the module my_rules has no 'Midle'"),
        ("no_such_module:Rule", "'no_such_module:Rule' cannot be imported: ModuleNotFoundError"),
        ("wrong_rules:Rule", "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("my_rules:number", "'my_rules:number' is 5: give a class derived"),
        ("collections:OrderedDict", "give a class derived from a base of flwr_robust.rules, or a function"),
        ("trimed-mean", "did you mean 'trimmed-mean'"),
    ],
)
def test_names_of_nothing(mine, spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rules.from_spec(spec)


def test_plugins_are_names(mine, monkeypatch):
    points = [EntryPoint("middle-row", "my_rules:Middle", registry.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == registry.GROUP else [])
    assert rules.from_spec("arc+middle-row", f=1)(X).shape == (2,)
    assert plugins.plugins(registry.GROUP) == {"middle-row": "my_rules"}


def test_registered_rules_are_names(monkeypatch):
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))

    @rules.register
    class LastRow(rules.LinearRule):
        takes_f = False

        def __init__(self):
            super().__init__()

        def weights(self, rows, f):
            return np.eye(rows.count)[-1]

    assert rules.from_spec("last-row")(X).tolist() == [2, 0]
    assert rules.register(LastRow) is LastRow
    with pytest.raises(ValueError, match="there is a rule 'median' already"):
        rules.register(type("Median", (LastRow,), {"name": "median"}))
    with pytest.raises(ValueError, match="give a class derived from a base"):
        rules.register(len)


# ---------------------------------------------------------------- functions


def halfway(X):
    return (X.min(axis=0) + X.max(axis=0)) / 2


def step(node, message):
    return trainer(lambda n: np.float32(n))(node, message)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_function_sees_the_whole_matrix(dtype):
    X = np.random.default_rng(0).standard_normal((7, 9_001)).astype(dtype)
    seen = []

    def look(rows):
        seen.append(rows.copy())
        rows[:] = 0  # it may change what it gets
        return np.zeros(rows.shape[1])

    before = X.copy()
    found = rules.Function(look)(X)
    assert found.dtype == dtype
    assert np.array_equal(seen[0], before)
    assert np.array_equal(X, before)
    np.testing.assert_allclose(
        rules.chain(rules.NNM(2), rules.Function(halfway))(X), halfway(rules.NNM(2)(X)), rtol=1e-5, atol=1e-6
    )


def test_a_strategy_takes_a_function(caplog):
    strategy = ARC(RobustStrategy(halfway, num_malicious_nodes=1))
    start = record({"w": np.zeros(4, np.float32)})
    with caplog.at_level(logging.INFO, logger="flwr"):
        result = strategy.start(grid=FakeGrid([1, 2, 3], step), initial_arrays=start, num_rounds=1)
    # ARC clips one of three: the longest update to the next norm.
    assert values(result.arrays)["w"].tolist() == [1.5] * 4
    assert strategy.num_malicious_nodes == 1
    assert "Function(halfway) gets all updates as one matrix: 3 x 4 values, 0 MB" in caplog.text


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda X: 1 / 0, "failed: ZeroDivisionError"),
        (lambda X: X[0] * np.nan, "returned NaN or infinity"),
    ],
)
def test_a_function_that_fails_costs_the_round(function, reason):
    strategy = RobustStrategy(function)
    start = record({"w": np.ones(4, np.float32)})
    result = strategy.start(grid=FakeGrid([1, 2, 3], step), initial_arrays=start, num_rounds=1)
    assert values(result.arrays)["w"].tolist() == [1] * 4
    assert reason in strategy.reports[0].skipped


def test_what_is_no_function():
    with pytest.raises(ValueError, match=r"returned an array of shape \(3,\); return one of \(2,\)"):
        rules.Function(lambda X: X[:, 0])(X)
    with pytest.raises(ValueError, match="give a function"):
        rules.Function(5)
    for wrong in (rules.Median, "median", 3):
        with pytest.raises(ValueError, match=r"give a rule or chain of flwr_robust.rules, or a function"):
            RobustStrategy(wrong)
