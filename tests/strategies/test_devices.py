"""Strategies and wrappers take a device, keep it, hand it on, and say why they cannot have one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import flwr.serverapp.strategy as flower
import numpy as np
import pytest

import flwr_robust
from flwr_robust import RobustStrategy, rules
from flwr_robust.engine.cpu import CPU
from tests.flower_messages import reply, values
from tests.rules.chains import F, N

torch = pytest.importorskip("torch")

from flwr_robust.engine import torch_device  # noqa: E402 - needs torch


def replies_to(model, n=N):
    rng = np.random.default_rng(11)
    return [
        reply(i, {k: (v + rng.standard_normal(v.shape)).astype(v.dtype) for k, v in model.items()}) for i in range(n)
    ]


@pytest.mark.parametrize(
    "make_strategy",
    [
        lambda **options: flwr_robust.TrimmedMean(num_malicious_nodes=F, **options),
        lambda **options: flwr_robust.ARC(flwr_robust.NNM(flwr_robust.Krum(num_malicious_nodes=F, **options))),
        lambda **options: flwr_robust.LASA(**options),
        lambda **options: RobustStrategy(rules.SparseFed(), **options),
    ],
)
def test_strategies_take_a_device(make_strategy):
    model = {"w": np.zeros((20, 30), np.float32), "steps": np.array(3), "b": np.zeros(400, np.float32)}
    found, expected = (
        values(make_strategy(**options).aggregate_train(1, replies_to(model))[0]) for options in ({"device": "cpu"}, {})
    )
    for name in model:
        assert found[name].dtype == model[name].dtype
        assert np.abs(found[name] - expected[name]).max() < 1e-6
        assert np.abs(expected[name]).max() > 0


def test_wrappers_take_the_device_over():
    strategy = flwr_robust.Median(device=torch.device("cpu"), threads=3)
    mixed = flwr_robust.NNM(strategy, num_malicious_nodes=1)
    assert (mixed.strategy.device, mixed.strategy.threads) == (torch_device.torch_device("cpu"), 3)
    moved = flwr_robust.ARC(mixed, device=None, threads=1)
    assert (moved.strategy.device, moved.strategy.threads) == (CPU, 1)
    assert strategy.device is mixed.strategy.device
    assert flwr_robust.Median().device is flwr_robust.Median(device=None).device is CPU


def test_wrappers_around_others_take_a_device():
    model = {"w": np.zeros((20, 30), np.float32), "b": np.zeros(400, np.float32)}

    def mixed(**options):
        clipped = flwr_robust.ARC(flower.FedAvg(), num_malicious_nodes=F, **options)
        strategy = flwr_robust.NNM(clipped)
        assert strategy.device is clipped.device
        return values(strategy.aggregate_train(1, replies_to(model))[0])

    on_device, expected = mixed(device="cpu", threads=2), mixed()
    for name in model:
        assert np.abs(on_device[name] - expected[name]).max() < 1e-6
        assert np.abs(expected[name]).max() > 0


def test_wrappers_refuse_what_they_do_not_know():
    for wrapped in (flwr_robust.Median(), flower.FedAvg()):
        with pytest.raises(TypeError, match=r"NNM was given 'fraction_train', which wrappers do not take; .* device"):
            flwr_robust.NNM(wrapped, num_malicious_nodes=1, fraction_train=0.5)
        with pytest.raises(ValueError, match="device = 'gpu'"):
            flwr_robust.NNM(wrapped, num_malicious_nodes=1, device="gpu")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda strategy: pickle.loads(pickle.dumps(strategy))])
def test_copies_keep_the_device(copied):
    strategy = flwr_robust.ARC(flwr_robust.NNM(flwr_robust.Median(device="cpu"), num_malicious_nodes=1))
    other = copied(strategy)
    assert other.strategy.device is strategy.strategy.device
    model = {"w": np.zeros((20, 30), np.float32)}
    found, expected = (values(each.aggregate_train(1, replies_to(model))[0])["w"] for each in (other, strategy))
    np.testing.assert_array_equal(found, expected)


def test_the_log_tells_the_device(caplog):
    with caplog.at_level("INFO", logger="flwr"):
        flwr_robust.Median(device="cpu").summary()
        assert "Device: cpu, through torch" in caplog.text
        caplog.clear()
        flwr_robust.Median().summary()
        assert "Device" not in caplog.text


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "Median was given device = 'gpu', which names no device of torch's; choose 'cpu' .* or 'cuda:N'"),
        (3.5, "'3.5', which names no device"),
        ("mps", "'mps', which sums in float64 are not known to work on; choose"),
        ("meta", "'meta', which sums"),
    ],
)
def test_unknown_devices_are_refused(device, message):
    with pytest.raises(ValueError, match=message):
        flwr_robust.Median(device=device)


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device = 'cuda', but torch .* sees no CUDA devices here; choose 'cpu'"):
        flwr_robust.Krum(num_malicious_nodes=1, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"device = 'cuda:2', but torch .* sees 2 CUDA devices"):
        flwr_robust.Krum(num_malicious_nodes=1, device="cuda:2")


def test_without_torch_a_device_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "flwr_robust.engine.torch_device")
    with pytest.raises(ValueError, match=r"device = 'cuda', but torch cannot be imported .*; install torch, or leave"):
        RobustStrategy(rules.Median(), device="cuda")
    assert RobustStrategy(rules.Median()).device is CPU


def test_torch_is_imported_on_demand_alone():
    code = (
        "import sys, numpy, flwr_robust; from flwr_robust import rules;"
        "flwr_robust.NNM(flwr_robust.Median(num_malicious_nodes=1));"
        "rules.chain(rules.NNM(1), rules.Median())(numpy.eye(5)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
