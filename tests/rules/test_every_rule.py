"""What holds for every rule and chain, asked of every name in the registry."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flwr_robust import rules
from flwr_robust.engine import cpu
from flwr_robust.engine.passes import NonFiniteRowsError
from flwr_robust.engine.updates import Updates, make_layers
from flwr_robust.rules.run import run
from tests.rules import chains, references
from tests.rules.chains import (
    RULES,
    N,
    assert_same,
    call,
    is_any,
    layers_of,
    make,
    model_of,
    on,
    root_of,
    run_on,
    side_of,
    sizes_of,
    takes,
    without_ties,
)
from tests.rules.data import KINDS, assert_close, matrix

REFERENCES = {
    "arc": references.arc,
    "bucketing": lambda X, f: references.bucketing(X, 1, seed=1),
    "bulyan": references.bulyan,
    "centered-clipping": lambda X, f: references.centered_clipping(X, np.zeros(X.shape[1]), None, 1),
    "dnc": references.dnc,
    "faba": references.faba,
    "geometric-median": lambda X, f: references.geometric_median(X),
    "krum": references.krum,
    "lasa": lambda X, f: references.lasa(X, sizes_of(X.shape[1]), 0.3, 2.0, 1.0),
    "lfighter": lambda X, f: references.lfighter(X, 0, *dict(layers_of(X.shape[1]))["fc"]),
    "mda": references.mda,
    "meamed": lambda X, f: references.mean_around_median(X, len(X) - f),
    "mean": lambda X, f: references.mean(X),
    "median": lambda X, f: references.median(X),
    "multi-krum": references.multi_krum,
    "nnm": references.nnm,
    "signguard": lambda X, f: references.signguard(X, fraction=0.1, seed=1),
    "sparsefed": lambda X, f: references.sparsefed([X])[0],
    "static-clipping": lambda X, f: references.clip(X, 4.0),
    "trimmed-mean": references.trimmed_mean,
    "aksel": references.aksel,
    "auror": lambda X, f: references.auror([X])[0],
    "autogm": lambda X, f: references.autogm(X),
    "caf": references.caf,
    "cge": references.cge,
    "clipped-clustering": lambda X, f: references.clipped_clustering([X])[0],
    "flanders": lambda X, f: references.mean(X),
    "fldetector": lambda X, f: references.mean(X),
    "foolsgold": lambda X, f: references.foolsgold([(range(len(X)), X)])[0],
    "geometric-median-of-means": references.geometric_median_of_means,
    "medoid": lambda X, f: references.medoid(X),
    "monna": lambda X, f: references.monna(X, f, 0),
    "norm-clipping": lambda X, f: references.norm_clipping(X),
    "residual-reweighting": lambda X, f: references.residual_reweighting(X),
    "rfa": lambda X, f: references.rfa(X),
    "rlr": references.rlr,
    "simple-clustering": lambda X, f: references.simple_clustering(X),
    "similarity-filter": lambda X, f: references.similarity_filter(X),
    "slsgd": references.slsgd,
    "smea": references.smea,
    "three-sigma": lambda X, f: references.three_sigma([X])[0],
}
# Those that are told more than the rows.
TOLD = {
    "cross-round": lambda X, f, told: references.cross_round([(range(len(X)), X, told.model)])[0],
    "flame": lambda X, f, told: references.flame(X, told.model),
    "fltrust": lambda X, f, told: references.fltrust(X, told.root),
    "nna": lambda X, f, told: references.nna(X, f, told.root),
    "crfl": lambda X, f, told: references.crfl([(X, told.model)])[0],
}
# Noise would hide what is compared; each has a test of its own.
QUIET = {"flame": {"noise": 0.0}, "crfl": {"std": 0.0}}
WITHOUT_REFERENCE = {"mixtailor": "runs one of the others: test_mixtailor.py compares each draw with it"}

# Behind NNM rows agree up to rounding, and values that lie symmetrically about a median tie.
TIES = ("bulyan", "faba", "lasa", "meamed", "residual-reweighting", "rlr", "signguard", "sparsefed")

every = pytest.mark.parametrize("spec", chains.EVERY)


def legal_fs(n):
    """Every f for few rows; the ends and the middle for many, where references are slow."""
    return range((n + 1) // 2) if n < 10 else sorted({0, 1, (n - 1) // 4, (n - 1) // 2})


# ---------------------------------------------------------------- references


def test_every_name_has_a_reference_or_a_reason():
    assert sorted([*REFERENCES, *TOLD, *WITHOUT_REFERENCE]) == sorted(rules.REGISTRY)


def assert_is_referenced(spec, X, f):
    """Compare a chain with its stages' references, one after the other."""
    stage = make(spec, f, **QUIET.get(spec.split("+")[-1], {}))
    least = stage.min_rows if isinstance(stage, rules.Rule) else 2 * f + 1
    if len(X) < least:
        return
    expected = X
    for name in spec.split("+"):
        expected = REFERENCES[name](expected, f) if name in REFERENCES else TOLD[name](expected, f, side_of(X))
    # Row by row: a hostile row must not blur the others.
    for row, target in zip(np.atleast_2d(call(stage, X)), np.atleast_2d(expected), strict=True):
        assert_close(row, target, X)


@pytest.mark.parametrize("name", [*REFERENCES, *TOLD])
def test_it_gives_what_its_reference_gives(name):
    for kind in KINDS:
        for n, d, dtype in [(3, 1, "f4"), (4, 6, "f8"), (5, 90, "f4"), (8, 33, "f4"), (9, 130, "f8")]:
            for f in legal_fs(n):
                assert_is_referenced(name, matrix(kind, n, d, seed=1, dtype=dtype), f)


# Two references compare all sets of rows, one all pairs of values in all columns.
@pytest.mark.parametrize("name", sorted({*REFERENCES, *TOLD} - {"mda", "smea", "residual-reweighting"}))
def test_many_rows_too(name):
    for kind, n, d in [("hostile", 17, 500), ("normal", 30, 200), ("integers", 60, 30)]:
        for f in legal_fs(n) if n < 60 else [9]:
            assert_is_referenced(name, matrix(kind, n, d, seed=1), f)


@pytest.mark.parametrize("name", [*REFERENCES, *TOLD])
def test_a_chain_gives_what_its_references_give_in_turn(name):
    for kind in KINDS if name not in TIES else ("normal", "tiny", "huge", "near"):
        for f in (1, 4):
            for before in ("nnm+", "arc+", "arc+nnm+", "nnm+arc+"):
                assert_is_referenced(before + name, matrix(kind, 11, 70, seed=1), f)


# ---------------------------------------------------------------- invariance


@every
def test_the_order_of_the_rows_has_no_say(spec):
    if not is_any(spec, chains.NEEDS_THE_ORDER):
        X = matrix("normal", N, 57, seed=1)
        X[:3] += 5.0  # rows that form no clusters may be clustered in several ways
        order = np.random.default_rng(0).permutation(N)
        assert_close(call(make(spec), X[order], ids=order), call(make(spec), X), X, tolerance=1e-6)


@every
def test_it_moves_with_the_rows(spec):
    if not is_any(spec, chains.KNOWS_ZERO):
        X = matrix("normal", N, 57, seed=2, dtype=np.float64)
        shift = np.random.default_rng(1).standard_normal(57) * 1e5
        assert np.abs(call(make(spec), X + shift) - shift - call(make(spec), X)).max() < 1e-7


@every
def test_it_grows_with_the_rows(spec):
    if not is_any(spec, chains.KNOWS_A_SIZE):
        X = matrix("normal", N, 57, seed=3, dtype=np.float64)
        expected = call(make(spec), X)
        for scale in (-2.0, 1e-12, 1e9):
            assert_close(call(make(spec), scale * X), scale * expected, X, tolerance=1e-10)
        for scale in (1e-300, 1e-170, 1e160, 1e305):
            assert_close(call(make(spec), X * scale) / scale, expected, X, tolerance=1e-6)


@every
def test_equal_rows_come_out_unchanged(spec):
    if is_any(spec, chains.CHANGES_EQUAL_ROWS):
        return
    row = np.random.default_rng(2).standard_normal(31)
    row *= 1.4 / np.linalg.norm(row)  # no threshold clips it
    for value in (row, 0 * row, row.round()):
        for rule, n in ((make(spec), N), (make(spec, 0), 1)):
            if rule.accepts(n):
                found = call(rule, np.tile(value, (n, 1)))
                kept = found != 0.0 if is_any(spec, chains.LEAVES_VALUES_OUT) else slice(None)
                # The median in another norm than the Euclidean is reached in steps.
                assert_close(found[kept], value[kept], value, tolerance=1e-12)


@every
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_stay_and_the_dtype_is_kept(spec, dtype):
    X = matrix("duplicates" if dtype == np.float16 else "hostile", N, 300, seed=4, dtype=dtype)
    before = X.copy()
    assert call(make(spec), X).dtype == dtype
    np.testing.assert_array_equal(X, before)


# ---------------------------------------------------------------- where rows lie, and how they are read


@every
def test_layers_have_no_say(spec):
    X = matrix("normal", N, 2100, seed=5)
    thousand = [("fc", (2, 50)), *((f"layer{i}", 2) for i in range(1000))]
    given = {"root": root_of(X), "model": model_of(X)}
    found = make(spec)(X, layers=thousand, **given)
    if is_any(spec, chains.READS_LAYERS):
        assert np.isfinite(found).all()
    else:
        np.testing.assert_array_equal(found, make(spec)(X, **given))


@every
def test_blocks_threads_and_devices_change_nothing_but_rounding(spec, monkeypatch):
    pytest.importorskip("torch")
    X = matrix("normal", N, 700, seed=14)
    expected = None
    # One block; blocks that end amid layers; more blocks than threads.
    for width, threads in [(700, 1), (333, 2), (64, 5)]:
        monkeypatch.setattr(cpu, "block_width", lambda *_, width=width: width)
        for device in (None, "cpu"):
            found = run_on(device, make(spec), X, threads)
            expected = expected or found
            assert_same(found, expected, X)


@every
def test_any_number_of_threads_gives_the_same_bits(spec, monkeypatch):
    monkeypatch.setattr(cpu, "block_width", lambda *_: 64)
    for dtype in ("f4", "f8"):
        X = matrix("hostile", N, 1500, seed=15, dtype=dtype)
        expected = run_on(None, make(spec), X, threads=1)
        for threads in (2, 3, 5):
            found = run_on(None, make(spec), X, threads)
            assert found.vector.tobytes() == expected.vector.tobytes()
            for one, other in ((found.norms, expected.norms), (found.weights, expected.weights)):
                assert (one is None and other is None) or one.tobytes() == other.tobytes()


@every
def test_a_device_gives_what_compiled_loops_give(spec):
    pytest.importorskip("torch")
    for kind in without_ties(spec):
        for dtype, scale in ((np.float32, 1), (np.float64, 1), (np.float64, 1e290)):
            X = scale * matrix(kind, N, 300, seed=1, dtype=dtype)
            assert_same(run_on("cpu", make(spec), X), run_on(None, make(spec), X), X)


@every
@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_model_is_subtracted(spec, device):
    pytest.importorskip("torch")
    X = matrix("normal", N, 800, seed=6)
    model = np.random.default_rng(3).standard_normal(800).astype(np.float32)
    layers = make_layers(layers_of(800), 800)
    replies = [[row[layer.start : layer.stop] for layer in layers] for row in X + model]
    sent = [model[layer.start : layer.stop] for layer in layers]
    rule, twin = make(spec), make(spec)
    for _ in range(2):
        given = side_of((X + model) - model)
        replied = Updates.of_replies(replies, [sent] * N, layers, X.dtype)
        found = run(rule, on(device, replied), threads=3, side=given)
        found.trace.store()
        assert_close(found.vector, call(twin, (X + model) - model), X, tolerance=1e-6)


@every
def test_tensors(spec):
    torch = pytest.importorskip("torch")
    from flwr_robust.engine.torch_device import TensorUpdates

    X = matrix("integers", N, 400, seed=5)
    tensor = torch.from_numpy(X.copy()).requires_grad_()
    rule, twin = make(spec), make(spec)
    for _ in range(2):
        expected, found = call(rule, X), call(twin, tensor)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)
    assert call(make(spec), tensor.to(torch.bfloat16)).dtype == torch.bfloat16
    for dtype in (torch.float32, torch.float64, torch.bfloat16) if "+" not in spec else ():
        rule, twin, given = make(spec), make(spec), tensor.detach().to(dtype)
        for _ in range(2):
            found = run(rule, TensorUpdates(given, layers_of(400)), side=side_of(given))
            expected = run_on(None, twin, X.astype(found.vector.dtype))
            found.trace.store()
            expected.trace.store()
            assert_same(found, expected, X)
    np.testing.assert_array_equal(tensor.detach().numpy(), X)


# ---------------------------------------------------------------- masking


def falls_to_masking(spec):
    """In how many rounds one row at 1e6 and two at 1e4 move the result far beyond where honest rows are."""
    rng, n, d, fallen = np.random.default_rng(8), 17, 60, 0
    for _ in range(25):
        X = rng.standard_normal((n, d))
        X[0] *= 1e6
        X[1:3] += 1e4 * rng.standard_normal(d)
        # MoNNA trusts the first row.
        found = call(make(spec, 3), np.roll(X, -3, axis=0))
        fallen += np.linalg.norm(found - X[3:].mean(axis=0)) > 100 * np.sqrt(d)
    return fallen


@pytest.mark.parametrize("name", [name for name in RULES if name != "mean"])
def test_a_rule_says_whether_a_huge_row_hides_large_ones(name):
    assert (falls_to_masking(name) > 5) == make(name).is_masked
    for before in ("arc+", "static-clipping+"):
        assert falls_to_masking(before + name) == 0
        assert not make(before + name).is_masked


def test_behind_mixing_alone_they_are_hidden_still():
    for name in ("dnc", "lasa", "lfighter"):
        assert make("bucketing+" + name).is_masked
        assert rules.MixTailor(pool=[rules.Median(), make(name)]).is_masked
        assert not rules.MixTailor(pool=[rules.Median(), make("arc+" + name)]).is_masked


# ---------------------------------------------------------------- the ends: few rows, large f, huge values, NaN


@pytest.mark.parametrize("before", ["", "nnm+", "arc+", "bucketing+", "static-clipping+", "arc+nnm+bucketing+"])
@pytest.mark.parametrize("name", RULES)
def test_a_finite_value_or_a_clear_error(name, before):
    for n in (1, 2, 3, 7, 12, 30):
        for f in {0, 1, (n - 1) // 2}:
            rule = make(before + name, f, s=2)
            if not rule.accepts(n):
                # Bucketing may leave too few rows of a larger n as well.
                assert n < rule.min_rows or "bucketing" in before
                with pytest.raises(ValueError, match=r"n = |no rows"):
                    call(rule, np.ones((n, 3)))
                continue
            for kind, dtype in (("hostile", "f4"), ("hostile", "f8"), ("zeros", "f4"), ("tiny", "f4"), ("huge", "f8")):
                try:
                    found = call(rule, matrix(kind, n, 20, seed=1, dtype=dtype))
                except rules.GaveUpError:
                    # An exact search refuses what would take too long.
                    assert (name, n, f) == ("smea", 30, 14)
                    continue
                assert (found.dtype, found.shape) == (dtype, (20,))
                assert np.isfinite(found).all()


@pytest.mark.parametrize("spec", [*RULES, *chains.VARIANTS])
@settings(max_examples=25, deadline=None)
@given(
    X=hnp.arrays(
        np.float32,
        st.tuples(st.integers(N, 13), st.integers(1, 6)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_finite_rows_give_a_finite_value_among_them(spec, X):
    found = call(make(spec), X)
    assert np.isfinite(found).all()
    if not is_any(spec, chains.KNOWS_ZERO):
        slack = 1e-4 * np.abs(X).max(initial=0.0)
        assert (found <= X.max(axis=0) + slack).all()
        assert (found >= X.min(axis=0) - slack).all()


@every
def test_a_model_without_values(spec):
    if not is_any(spec, ["lfighter"]):
        assert call(make(spec), np.ones((N, 0))).shape == (0,)


@pytest.mark.filterwarnings("error")
@every
@pytest.mark.parametrize("device", [None, "cpu"])
def test_rows_that_are_not_finite_are_named(spec, device):
    pytest.importorskip("torch")
    for bad, dtype in ((np.nan, "f4"), (np.nan, "f8"), (np.inf, "f4"), (-np.inf, "f8")):
        X, left = matrix("normal", N, 90, seed=9, dtype=dtype), np.arange(N)
        X[4, 17] = X[6, 0] = X[6, 89] = bad
        # A rule that takes a sample of the columns may find one of them at a time.
        while len(left) > N - 2:
            with pytest.raises(NonFiniteRowsError, match="hold NaN or infinity; leave such rows out") as caught:
                run_on(device, make(spec, f=1), X[left])
            assert set(left[caught.value.rows]) <= {4, 6}
            left = np.delete(left, caught.value.rows)
        assert np.isfinite(run_on(device, make(spec, f=1), X[left]).vector).all()


@pytest.mark.parametrize("spec", [*chains.PRE_AGGREGATIONS, *chains.EVERY])
def test_too_few_rows_are_named(spec):
    for f in (0, 1, 3):
        stage = make(spec, f)
        if "+" not in spec and stage.least_rows(f) > 1:
            least, f = stage.least_rows(f), stage.resolve_f(9)
            says = (
                f"{stage!r} was given n = {least - 1} rows with f = {f}, but it needs {stage.requirement}, so at least"
            )
            with pytest.raises(ValueError, match=re.escape(f"{says} {least} rows")):
                call(stage, np.ones((least - 1, 12)))
        with pytest.raises(ValueError, match="there are no rows to aggregate: n = 0"):
            call(stage, np.ones((0, 12)))


# ---------------------------------------------------------------- what is said of a stage


@pytest.mark.parametrize("name", rules.REGISTRY)
def test_facts(name):
    stage, kind = make(name), rules.REGISTRY[name]
    assert (kind.name, getattr(rules, kind.__name__)) == (name, kind)
    assert all((kind.source, kind.breakdown, kind.cost, stage.requirement))
    assert kind.takes_f == ("f" in takes(name))
    if isinstance(stage, rules.Rule):
        assert stage.accepts(stage.min_rows)
        assert not stage.accepts(stage.min_rows - 1)


@pytest.mark.parametrize("name", [name for name in rules.REGISTRY if name != "mixtailor"])
def test_a_call_reads_the_data_as_often_as_its_cost_says(name):
    behind = "" if name in RULES else "+mean"
    # LASA reads a smaller model once more, instead of a sample.
    passes = run_on(None, make(name + behind), matrix("normal", N, 2**13, seed=4)).passes
    assert passes == int(rules.REGISTRY[name].cost[0]) + len(behind.split("+")[1:])


@pytest.mark.parametrize("spec", [*chains.PRE_AGGREGATIONS, "arc+nnm", *chains.EVERY])
def test_its_repr_makes_an_equal_one(spec):
    X = matrix("normal", N, 30, seed=7)
    for stage in (make(spec), make(spec, 0.2)):
        again = eval(repr(stage), {**vars(rules), "inf": np.inf})
        assert repr(again) == repr(stage)
        np.testing.assert_array_equal(call(again, X), call(stage, X))
