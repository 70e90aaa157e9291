"""What must hold for every rule and chain, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flwr_robust import rules
from flwr_robust.engine.choose import updates_for
from flwr_robust.engine.updates import Updates, make_layers
from flwr_robust.rules.run import run
from tests.rules.data import assert_close, matrix

F = 3
ALL = [
    rules.Mean(),
    rules.Median(),
    rules.TrimmedMean(F),
    rules.Krum(F),
    rules.Krum(F, p=3),
    rules.MultiKrum(F),
    rules.GeometricMedian(),
    rules.chain(rules.NNM(F), rules.Krum(F)),
    rules.chain(rules.NNM(F), rules.GeometricMedian()),
    rules.chain(rules.NNM(F), rules.Median()),
    rules.chain(rules.ARC(F), rules.Median()),
    rules.chain(rules.ARC(F), rules.NNM(F), rules.TrimmedMean(F)),
    rules.chain(rules.NNM(F), rules.ARC(F), rules.GeometricMedian()),
    rules.chain(rules.StaticClipping(4.0), rules.NNM(F), rules.MultiKrum(F)),
    rules.GeometricMedian(p=3),
    rules.MDA(F),
    rules.MeaMed(F),
    rules.Bulyan(2),
    rules.Bulyan(2, selection="median"),
    rules.Bulyan(2, selection="geometric-median"),
    rules.FABA(F),
    rules.DnC(F),
    rules.chain(rules.NNM(F), rules.MeaMed(F)),
    rules.chain(rules.ARC(2), rules.Bulyan(2)),
    rules.SignGuard(fraction=1.0),
    rules.LASA(sparsity=0.25),
    rules.chain(rules.NNM(F), rules.LASA()),
]
NAMES = [repr(rule) for rule in ALL]
EVERY = pytest.mark.parametrize("rule", ALL, ids=NAMES)


def unmoved(rule):
    """Rules whose clipping looks at zero do not follow a translation."""
    looks_at_zero = ("arc", "static-clipping", "signguard", "lasa")
    return not any(stage.name in looks_at_zero for stage in (*rule.stages, rule.last))


def scales(rule):
    return all(stage.name != "static-clipping" for stage in rule.stages)


def sparse(rule):
    return rule.last.name == "lasa"


@EVERY
def test_permutation(rule):
    if rule.last.name == "mda":
        pytest.skip("of several sets of least diameter, which share their farthest pair, it takes the first")
    X = matrix("normal", 11, 57, seed=1)
    order = np.random.default_rng(0).permutation(11)
    assert_close(rule(X[order]), rule(X), X, tolerance=1e-6)


@EVERY
def test_translation(rule):
    if unmoved(rule):
        X = matrix("normal", 11, 57, seed=2, dtype=np.float64)
        shift = np.random.default_rng(1).standard_normal(57) * 1e5
        assert np.abs(rule(X + shift) - shift - rule(X)).max() < 1e-7


@EVERY
def test_scaling(rule):
    if scales(rule):
        X = matrix("normal", 11, 57, seed=3, dtype=np.float64)
        for scale in (-2.0, 1e-12, 1e9):
            assert_close(rule(scale * X), scale * rule(X), X, tolerance=1e-10)


@EVERY
def test_equal_rows_come_out_unchanged(rule):
    row = np.random.default_rng(2).standard_normal(31)
    if not scales(rule):
        row /= np.linalg.norm(row)
    result = rule(np.tile(row, (11, 1)))
    if sparse(rule):
        row[np.argsort(np.abs(row))[: int(31 * rule.last.sparsity)]] = 0.0
    # The median over rows that are equal up to rounding, of a norm other than the Euclidean, is reached in steps.
    assert_close(result, row, row, tolerance=1e-12)


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_stay_and_the_dtype_is_kept(rule, dtype):
    X = matrix("hostile", 11, 300, seed=4, dtype=dtype)
    before = X.copy()
    assert rule(X).dtype == dtype
    assert np.array_equal(X, before)


@EVERY
def test_result_does_not_depend_on_layers_blocks_or_threads(rule):
    X = matrix("normal", 11, 5000, seed=5)
    whole = rule(X)
    layers = [("a", (10, 3)), ("b", 1), ("empty", 0), ("c", (4, 1, 5, 5)), ("d", 5000 - 131)]
    if not sparse(rule):
        assert np.array_equal(rule(X, layers=layers), whole)
    whole = rule(X, layers=layers)
    made = make_layers(layers, 5000)
    replies = [[row[layer.start : layer.stop] for layer in made] for row in X]
    for updates in (Updates.of_rows(X, layers), Updates.of_replies(replies, None, made)):
        for threads in (1, 2, 3):
            assert_close(run(rule, updates, threads=threads).vector, whole, X, tolerance=1e-6)


@EVERY
def test_a_model_is_subtracted(rule):
    X = matrix("normal", 11, 800, seed=6)
    model = np.random.default_rng(3).standard_normal(800).astype(np.float32)
    layers = make_layers(None, 800)
    replies = Updates.of_replies([[row] for row in X + model], [model], layers)
    assert_close(run(rule, replies).vector, rule((X + model) - model), X, tolerance=1e-6)


@EVERY
def test_torch_tensors(rule):
    torch = pytest.importorskip("torch")
    X = matrix("normal", 11, 400, seed=7)
    tensor = torch.from_numpy(X.copy()).requires_grad_()
    result = rule(tensor)
    assert isinstance(result, torch.Tensor)
    assert result.dtype == torch.float32
    assert np.array_equal(result.numpy(), rule(X))
    half = rule(torch.from_numpy(X).to(torch.bfloat16))
    assert half.dtype == torch.bfloat16


@EVERY
@settings(max_examples=40, deadline=None)
@given(
    X=hnp.arrays(
        np.float32,
        st.tuples(st.integers(11, 13), st.integers(1, 6)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_finite_input_gives_finite_output_within_range(rule, X):
    result = rule(X)
    assert np.isfinite(result).all()
    # Each is a mean, median or convex combination of rows that are at most clipped.
    slack = 1e-4 * np.abs(X).max(initial=0.0)
    if scales(rule) and rule.last.name != "signguard" and "arc" not in repr(rule).lower() and not sparse(rule):
        assert (result <= X.max(axis=0) + slack).all()
        assert (result >= X.min(axis=0) - slack).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e160, 1e305])
@EVERY
def test_float64_at_the_ends_of_its_range(rule, scale):
    if scales(rule):
        X = matrix("normal", 11, 20, seed=8, dtype=np.float64)
        assert_close(rule(X * scale) / scale, rule(X), X, tolerance=1e-6)


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_not_finite_are_named(rule, bad, dtype):
    X = matrix("normal", 11, 90, seed=9, dtype=dtype)
    X[4, 17] = X[6, 0] = bad
    with pytest.raises(ValueError, match=r"rows \[4, 6\] hold NaN or infinity"):
        rule(X)


def test_passes_over_the_data():
    X = updates_for(matrix("normal", 17, 3000, seed=10))

    def passes(rule):
        return run(rule, X).passes

    assert passes(rules.Mean()) == passes(rules.Median()) == passes(rules.TrimmedMean(4)) == 1
    assert passes(rules.chain(rules.Bucketing(f=4), rules.TrimmedMean(4))) == 1
    assert passes(rules.Krum(4)) == passes(rules.GeometricMedian()) == 2
    long = rules.chain(rules.ARC(4), rules.NNM(4), rules.StaticClipping(1.0), rules.NNM(4), rules.ARC(4))
    for last in (rules.Krum(4), rules.TrimmedMean(4), rules.GeometricMedian()):
        assert passes(rules.chain(long, last)) == 2


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(
    "rule",
    [rules.Mean(), rules.Median(), rules.GeometricMedian(), rules.Krum(), rules.MultiKrum(), rules.TrimmedMean()],
)
def test_few_rows(rule, rows):
    X = matrix("normal", rows, 5, seed=11)
    assert np.isfinite(rule(X)).all()
    assert rule(X[:, :0]).shape == (0,)


def test_one_row_is_returned():
    X = matrix("normal", 1, 5, seed=12)
    for name, stage in rules.REGISTRY.items():
        if name in ("bulyan", "signguard", "lasa", "lfighter", "sparsefed"):
            continue  # they need more rows, or layers, or do not return a row as it is
        rule = stage(max_norm=1e9) if name == "static-clipping" else stage()
        assert np.array_equal(np.ravel(rule(X)), X[0]), name
