"""What torch's CPU cannot stand in for: results, streams and memory of a real GPU. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest

import flwr_robust
from flwr_robust import rules
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.run import run
from tests.flower_messages import values
from tests.rules.chains import EVERY, F, N, assert_same, call, make, on, run_on, without_ties
from tests.rules.data import assert_close, matrix
from tests.strategies.test_devices import replies_to

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device is here: the same code is tested on torch's CPU", allow_module_level=True)

from flwr_robust.engine import torch_device  # noqa: E402 - needs torch

D = 1000


@pytest.mark.parametrize("spec", EVERY)
def test_a_gpu_gives_what_compiled_loops_give(spec):
    for dtype in (np.float32, np.float64):
        for kind in ("normal", *without_ties(spec)):
            X = matrix(kind, N, D, seed=1, dtype=dtype)
            rule, twin = make(spec), make(spec)
            for _ in range(2):
                found, expected = run_on("cuda", rule, X), run_on(None, twin, X)
                found.trace.store()
                expected.trace.store()
                assert_same(found, expected, X)


@pytest.mark.parametrize("spec", EVERY)
def test_a_tensor_on_a_gpu_stays_there(spec):
    X = torch.from_numpy(matrix("normal", N, D, seed=12)).cuda()
    before = X.clone()
    found = call(make(spec), X)
    assert found.device == X.device
    assert found.dtype == X.dtype
    assert torch.equal(X, before)
    assert_close(found.cpu().numpy(), call(make(spec), X.cpu().numpy()), X.cpu().numpy(), 1e-6)


def test_a_tensor_that_is_still_being_made():
    X = torch.zeros(N, 2_000_000, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for step in range(50):
            X += step
        found = rules.Median()(X)
    assert (found == 1225.0).all()


@pytest.mark.parametrize("spec", ["arc+nnm+krum", "nnm+median", "meamed", "lasa"])
def test_a_gpu_holds_few_blocks(spec):
    n, d = 16, 4_000_000
    X = np.random.default_rng(13).standard_normal((n, d), dtype=np.float32)
    run(make(spec), on("cuda", Updates.of_rows(X[:, :1000])))  # libraries take memory of their own
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = run(make(spec), on("cuda", Updates.of_rows(X)))
    peak = torch.cuda.max_memory_allocated() - before
    # A float32 block, its float64 copy, sorted values with their places, and what comes of them.
    assert peak <= torch_device.RESIDENT * 6 * torch_device.BLOCK_BYTES
    assert peak < X.nbytes
    assert_same(found, run(make(spec), Updates.of_rows(X)), X)


def test_strategies_on_a_gpu():
    model = {"w": np.zeros((200, 300), np.float32)}
    for wrapped in (flwr_robust.TrimmedMean, flwr_robust.Krum, flwr_robust.Bulyan):
        found, expected = (
            values(flwr_robust.NNM(wrapped(num_malicious_nodes=F, **options)).aggregate_train(1, replies_to(model))[0])
            for options in ({"device": "cuda"}, {})
        )
        assert np.abs(found["w"] - expected["w"]).max() < 1e-6
