"""What a stage promises, chains of stages, and what becomes of stages that users write."""

from __future__ import annotations

import numpy as np
import pytest

import flwr_robust
from flwr_robust import rules
from tests.flower_messages import reply, values
from tests.rules.data import matrix

X = matrix("normal", 9, 4, seed=1, dtype=np.float64)


class Middle(rules.CoordinateRule):
    """A user's rule: the mean without the lowest and the highest `cut` values."""

    takes_f = False

    def __init__(self, cut=1, *, scale=1.0):
        super().__init__()
        self.cut, self.scale = cut, scale

    def reduce(self, block, f, out):
        out[:] = self.scale * np.sort(block, axis=0)[self.cut : -self.cut].mean(axis=0)


class Halves(rules.PreAggregation):
    """A user's stage that mixes rows without saying so."""

    takes_f = False

    def transform(self, rows, f, trace):
        return rows.mix(np.full((rows.count, rows.count), 1 / rows.count))


# ---------------------------------------------------------------- names, options, repr


def test_a_name_comes_from_the_class():
    names = {
        kind: type(kind, (rules.TrimmedMean,), {}).name for kind in ("MyRule", "ARCOfMine", "Rule2Go", "X", "HTTP")
    }
    assert names == {"MyRule": "my-rule", "ARCOfMine": "arc-of-mine", "Rule2Go": "rule2-go", "X": "x", "HTTP": "http"}
    assert Middle.name == "middle"
    assert rules.TrimmedMean.name == "trimmed-mean"
    assert type("Other", (rules.TrimmedMean,), {"name": "mine"}).name == "mine"


def test_options_are_the_arguments_that_differ_from_the_defaults():
    assert repr(Middle()) == "Middle()"
    assert repr(Middle(2, scale=0.5)) == "Middle(cut=2, scale=0.5)"
    assert Middle(scale=0.5).options() == {"scale": 0.5}
    assert repr(Middle(np.array([1.0, 2.0]))) == "Middle(cut=array([1., 2.]))"
    assert rules.Krum(0).options() == {"f": 0}
    assert repr(rules.Bucketing(s=2, f=3)) == "Bucketing(s=2)"
    assert repr(rules.Bucketing(f=3)) == "Bucketing(f=3)"


def test_a_users_rule_runs_alone_and_in_chains():
    assert np.allclose(Middle()(X), rules.TrimmedMean(1)(X))
    assert np.allclose(rules.chain(rules.NNM(2), Middle())(X), rules.TrimmedMean(1)(rules.NNM(2)(X)))


# ---------------------------------------------------------------- f and numbers of rows


def test_a_fraction_is_floored():
    assert rules.Krum(0.3).resolve_f(10) == 3
    assert rules.Krum(0.29).resolve_f(100) == 29
    assert rules.Krum(0.49).resolve_f(3) == 1


@pytest.mark.parametrize("f", [-1, 0.5, "2", True])
def test_an_f_that_is_none_is_refused_by_the_class(f):
    with pytest.raises(ValueError, match=f"MultiKrum was given f = {f!r}; give a whole number of rows"):
        rules.MultiKrum(f)


def test_least_rows():
    assert rules.Median().min_rows == 1
    assert rules.Krum(4).min_rows == rules.chain(rules.ARC(4), rules.NNM(4), rules.Median()).min_rows == 9
    assert rules.MultiKrum(1, m=5, num_neighbors=6).min_rows == 7
    assert [n for n in range(9) if rules.Krum(0.3).accepts(n)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not rules.Krum(0.3).accepts(0)
    with pytest.raises(
        ValueError, match=r"Krum\(f=4\) was given n = 8 rows with f = 4, but it needs n > 2f, so at lea"
    ):
        rules.chain(rules.ARC(1), rules.Krum(4)).require_rows(8)


# ---------------------------------------------------------------- chains


def test_chains_flatten_and_read_as_they_were_written():
    whole = rules.chain(rules.ARC(2), rules.chain(rules.NNM(2), rules.Krum(2)))
    assert repr(whole) == "chain(ARC(f=2), NNM(f=2), Krum(f=2))"
    assert repr(rules.chain(rules.chain(rules.ARC(2), rules.NNM(2)), rules.Krum(2))) == repr(whole)
    assert repr(rules.chain(rules.ARC(2), rules.NNM(2))) == "chain(ARC(f=2), NNM(f=2))"
    assert [stage.name for stage in (*whole.stages, whole.last)] == ["arc", "nnm", "krum"]
    assert (whole.f, rules.chain(rules.Median()).name) == (2, "median")


def test_pre_aggregations_alone():
    both = rules.chain(rules.ARC(2), rules.NNM(2))
    assert np.allclose(both(X), rules.NNM(2)(rules.ARC(2)(X)))
    assert np.allclose(rules.chain(both, rules.Median())(X), rules.Median()(both(X)))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "pre-aggregations .* and then at most one rule"),
        ((rules.Krum(1), rules.Median()), r"chain\(Krum\(f=1\), Median\(\)\) must be .* which comes last"),
        ((rules.Krum(1), rules.NNM(1)), "which comes last"),
        (("krum",), "was given 'krum'; give rules and pre-aggregations"),
    ],
)
def test_what_makes_no_chain(stages, message):
    with pytest.raises(ValueError, match=message):
        rules.chain(*stages)


# ---------------------------------------------------------------- what is read must be declared


def reader_of(what, method):
    """Make a rule or stage that declares nothing, and reads norms or distances in one of its methods."""

    class Transforms(rules.PreAggregation):
        def transform(self, rows, f, trace):
            getattr(rows, what)
            return rows

    class Weighs(rules.LinearRule):
        def weights(self, rows, f):
            getattr(rows, what)
            return np.full(rows.count, 1 / rows.count)

    class Aggregates(rules.Rule):
        def aggregate(self, rows, f):
            getattr(rows.geometry, what)
            return rows.combine(np.full(rows.count, 1 / rows.count))

    return {"transform": Transforms, "weights": Weighs, "aggregate": Aggregates}[method]


@pytest.mark.parametrize("method", ["transform", "weights", "aggregate"])
@pytest.mark.parametrize("what", ["squared_distances", "inner", "inner_from_origin", "norms"])
def test_what_is_not_declared_cannot_be_read(what, method):
    kind = reader_of(what, method)
    needed = rules.Needs.NORMS if what == "norms" else rules.Needs.DISTANCES
    for before in ((), (rules.Bucketing(s=1),), (rules.StaticClipping(1.0), rules.Bucketing(s=1))):
        chain = rules.chain(*before, kind(), *([rules.Mean()] if method == "transform" else []))
        says = rf"^{kind.__name__} reads {needed.name.lower()} but declares needs = Needs.NOTHING: "
        with pytest.raises(ValueError, match=rf"{says}write needs = Needs.{needed.name} in the class\.$"):
            chain(X)
        kind.needs = needed
        assert np.isfinite(chain(X)).all()
        kind.needs = rules.Needs.NOTHING


def test_a_stage_that_mixes_must_say_so():
    chain = rules.chain(Halves(), rules.ARC(1), rules.Mean())
    with pytest.raises(ValueError, match="ARC reads norms of rows that a stage before it mixes: write mixes = True in"):
        chain(X)
    Halves.mixes = True
    assert np.allclose(chain(X), X.mean(axis=0))
    Halves.mixes = False


# ---------------------------------------------------------------- what users' rules return and keep


class Running(rules.Rule):
    """A user's rule that returns the very array that it keeps: the sum of all means so far."""

    takes_f = False
    remembers = ("total",)

    def aggregate(self, rows, f):
        total = rows.remembered.get("total", np.zeros(rows.d))
        total = total + rows.combine(np.full(rows.count, 1 / rows.count))
        self.mine = total
        rows.remember(total=total)
        return total


def test_a_kept_array_is_not_overwritten_by_what_becomes_of_the_aggregate():
    rule = Running()
    strategy = flwr_robust.RobustStrategy(rule, server_momentum=0.5, server_learning_rate=0.1)
    for server_round in (1, 2, 3):
        replies = [reply(i, {"w": np.full((2, 3), 1.0 + i, np.float32)}) for i in range(3)]
        arrays, _ = strategy.aggregate_train(server_round, replies)
        np.testing.assert_array_equal(rule.mine, np.full(6, 2.0 * server_round))
        np.testing.assert_array_equal(rule.state()["total"], np.full(6, 2.0 * server_round))
    # Momentum over 2, 4 and 6: 2, 5 and 8.5, a tenth of which is added to a model of zeros.
    assert np.allclose(values(arrays)["w"], 0.85)


def test_what_is_remembered_takes_the_place_of_what_was():
    rule = Running()
    rule(X)
    kept = rule.memory["total"]
    rule(X)
    assert rule.memory["total"] is kept
    assert np.allclose(kept, 2 * X.mean(axis=0))
    rule(np.ones((2, 4), np.float32))
    assert rule.memory["total"] is kept
    rule.reset()
    rule(X[:, :2])
    assert rule.memory["total"].shape == (2,)


def test_an_aggregate_is_a_vector_of_the_rows_dtype():
    class Returns(rules.Rule):
        takes_f = False

        def __init__(self, value):
            super().__init__()
            self.value = value

        def aggregate(self, rows, f):
            return self.value

    assert Returns([1, 2, 3, 4])(X.astype(np.float32)).dtype == np.float32
    assert np.array_equal(Returns(X[0])(X), X[0])
    for value in (np.zeros(3), np.zeros((1, 4)), 1.0):
        with pytest.raises(ValueError, match=r"returned an array of shape .*; return one of \(4,\)"):
            Returns(value)(X)


def test_a_rule_that_does_not_read_every_column_gets_no_bad_rows_either():
    class First(rules.Rule):
        takes_f = False

        def aggregate(self, rows, f):
            return rows.row(0)

    assert np.array_equal(First()(X), X[0])
    assert np.allclose(rules.chain(rules.NNM(2), First())(X), rules.NNM(2)(X)[0])
    Y = X.copy()
    Y[3, 2] = np.inf
    with pytest.raises(rules.NonFiniteRowsError, match=r"rows \[3\] hold NaN or infinity"):
        First()(Y)
