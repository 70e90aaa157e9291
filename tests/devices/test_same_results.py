"""Every rule and chain gives the same, to rounding, on every device, in blocks of any width, by any number of threads.

torch's CPU stands in for a GPU; `test_gpu` asks the same of a real one.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine import cpu as parallel
from flwr_robust.engine.measure import measure
from flwr_robust.engine.passes import NonFiniteRowsError
from flwr_robust.engine.rows import mix_rows
from flwr_robust.engine.torch_device import TensorUpdates
from flwr_robust.engine.updates import Updates, make_layers
from flwr_robust.rules.run import run
from tests.devices.cases import LAYERS, LP_RULES, SPECS, D, F, N, assert_same, compare, kinds, make, on
from tests.rules import references as ref
from tests.rules.data import assert_close, matrix

torch = pytest.importorskip("torch")

# Columns a block, and threads: one block; blocks that end amid layers; more blocks than threads, and than places.
WIDTHS = [(D, 1), (333, 2), (64, 5)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spec", SPECS)
def test_every_chain_gives_what_compiled_loops_give(spec, dtype):
    for kind in kinds(spec):
        compare(make(spec), "cpu", kind, dtype)


@pytest.mark.parametrize("rule", LP_RULES, ids=repr)
def test_other_norms_too(rule):
    compare(rule, "cpu", "normal", np.float32)


@pytest.mark.parametrize("scale", [1e-310, 1e-170, 1e160, 1e305])
@pytest.mark.parametrize("rule", [rules.Krum(F), rules.chain(rules.ARC(F), rules.MultiKrum(F))], ids=repr)
def test_float64_at_the_ends_of_its_range(rule, scale):
    X = matrix("normal", N, D, seed=1, dtype=np.float64)
    found = run(rule, on("cpu", Updates.of_rows(X * scale)))
    # Close to the smallest float64, values have few digits.
    assert_close(found.vector / scale, rule(X), X, 1e-10 if scale > 1e-300 else 1e-5)


@pytest.mark.parametrize("rule", [rules.Median(), rules.Krum(F), rules.LASA()], ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(rule, bad):
    X = matrix("normal", N, D, seed=2)
    X[[3, 7], 400] = bad
    with pytest.raises(NonFiniteRowsError) as caught:
        run(rule, on("cpu", Updates.of_rows(X)))
    assert caught.value.rows == [3, 7]


def test_distances_of_rows_that_nearly_agree():
    X = matrix("near", N, D, seed=3)
    geometry, _, passes = measure(on("cpu", Updates.of_rows(X)), threads=2)
    assert passes == 2
    distances = np.sqrt(geometry.first(N).squared_distances)
    np.testing.assert_allclose(distances, ref.distances(X), rtol=1e-6)


@pytest.mark.parametrize("rule", [*map(make, SPECS), *LP_RULES], ids=[*SPECS, *map(repr, LP_RULES)])
def test_block_size_and_threads_change_nothing_but_rounding(rule, monkeypatch):
    X = matrix("normal", N, D, seed=14)

    def run_on(device, width, threads):
        monkeypatch.setattr(parallel, "block_width", lambda *_: width)
        return run(copy.deepcopy(rule), on(device, Updates.of_rows(X, LAYERS)), threads)

    expected = run_on(None, *WIDTHS[0])
    for device in (None, "cpu"):
        for width, threads in WIDTHS:
            assert_same(run_on(device, width, threads), expected, X)


# ---------------------------------------------------------------- where updates lie


@pytest.mark.parametrize("spec", ["krum", "arc+median", "centered-clipping", "nnm+trimmed-mean", "mean"])
def test_replies_minus_the_model(spec):
    X = matrix("normal", N, D, seed=4)
    model = np.random.default_rng(4).standard_normal(D).astype(np.float32)
    layers = make_layers(LAYERS, D)
    replies = [[row[layer.start : layer.stop] for layer in layers] for row in X + model]
    sent = [model[layer.start : layer.stop] for layer in layers]
    rule, twin = make(spec), make(spec)
    for _ in range(2):
        found = run(rule, on("cpu", Updates.of_replies(replies, sent, layers)), threads=3)
        assert_same(found, run(twin, Updates.of_replies(replies, sent, layers), threads=3), X)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("spec", ["krum", "arc+median", "centered-clipping", "nnm+trimmed-mean", "mean", "lasa"])
def test_tensors_that_lie_on_the_device(spec, dtype):
    X = torch.from_numpy(matrix("integers", N, D, seed=5)).to(dtype)
    before, rule, twin = X.clone(), make(spec), make(spec)
    for _ in range(2):
        assert_same(run(rule, on("cpu", TensorUpdates(X))), run(twin, TensorUpdates(X)), X.double().numpy())
    assert torch.equal(X, before)


def test_what_is_remembered_joins_a_tensor_on_the_device():
    X, below = torch.ones(3, 5), [np.arange(5.0, dtype=np.float32)]
    block = TensorUpdates(X).stacked(below).block(1, 4, torch.device("cpu"))
    assert block.tolist() == [[1.0] * 3] * 3 + [[1.0, 2.0, 3.0]]


def test_mixed_rows():
    X = matrix("normal", N, D, seed=6)
    mixing = np.random.default_rng(6).standard_normal((4, N))
    found = mix_rows(on("cpu", Updates.of_rows(X)), mixing, threads=2)
    assert_close(found, mixing @ X.astype(np.float64), X)


def test_a_rule_that_knows_no_tensors_gets_arrays():
    class Largest(rules.CoordinateRule):
        name = "largest"

        def reduce(self, block, f, out):
            assert isinstance(block, np.ndarray)
            np.max(block, axis=0, out=out)

    X = matrix("normal", N, D, seed=7)
    found = run(rules.chain(rules.ARC(F), Largest()), on("cpu", Updates.of_rows(X)))
    assert_close(found.vector, ref.arc(X, F).max(axis=0), X)
