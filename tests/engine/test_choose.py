from __future__ import annotations

import sys

import numpy as np
import pytest

from flwr_robust.engine.choose import device_for, is_tensor, like, updates_for
from flwr_robust.engine.cpu import CPU


def read(updates):
    out = np.empty((updates.n, updates.d), updates.dtype)
    updates.read(0, updates.d, out)
    return out


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones(3), r"rules take an \(n, d\) array or tensor of floats up to 64 bits, .* got shape \(3,\) of float64"),
        (np.ones((2, 2, 2)), r"got shape \(2, 2, 2\)"),
        (np.ones((2, 3), int), r"got shape \(2, 3\) of int64"),
        (np.ones((2, 3), np.longdouble), "floats up to 64 bits"),
        (np.ones((2, 3), complex), "of complex128"),
        ([["a", "b"]], "of <U1"),
        (None, r"got shape \(\) of object"),
    ],
)
def test_what_is_no_matrix_of_floats_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        updates_for(X)


def test_arrays_and_lists_are_read_where_they_lie():
    X = np.arange(6.0).reshape(2, 3)
    updates = updates_for(X, [("a", 1), ("b", 2)])
    assert [layer.name for layer in updates.layers] == ["a", "b"]
    X[0, 0] = 7.0
    np.testing.assert_array_equal(read(updates), X)
    np.testing.assert_array_equal(read(updates_for(X.tolist())), X)
    assert updates_for(X.astype(np.float16)).dtype == np.float32


def test_results_are_what_the_rows_are():
    result = np.array([1.5, 2.0])
    assert like(result, np.ones((3, 2))) is result
    assert like(result, np.ones((3, 2), np.float16)).dtype == np.float16
    assert like(result, [[1.0, 2.0]]).dtype == np.float64
    assert not is_tensor(result)
    torch = pytest.importorskip("torch")
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        found = like(result, torch.ones(3, 2, dtype=dtype))
        assert (found.dtype, found.tolist()) == (dtype, [1.5, 2.0])
        assert is_tensor(found)


def test_tensors_that_numpy_knows_are_read_where_they_lie():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.float32, torch.float64):
        tensor = torch.arange(6).reshape(2, 3).to(dtype).requires_grad_()
        updates = updates_for(tensor)
        assert updates.device is CPU
        with torch.no_grad():
            tensor[0, 0] = 7.0
        np.testing.assert_array_equal(read(updates), tensor.detach().numpy())
    assert updates_for(tensor.detach().to(torch.bfloat16)).device.name == "cpu"
    np.testing.assert_array_equal(read(updates_for(tensor.T)), tensor.detach().numpy().T)
    with pytest.raises(ValueError, match=r"got shape \(2, 3\) of torch.int64"):
        updates_for(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got shape \(3,\) of torch.float32"):
        updates_for(torch.ones(3))


def test_no_name_is_the_compiled_loops():
    assert device_for(None, "a test") is CPU


def test_devices_by_name(monkeypatch):
    torch = pytest.importorskip("torch")
    assert device_for("cpu", "a test") is device_for(torch.device("cpu"), "a test")
    assert device_for("cpu", "a test") is not CPU
    with pytest.raises(ValueError, match="a test was given device = 'tpu', which names no device of torch's; choose"):
        device_for("tpu", "a test")
    with pytest.raises(ValueError, match="device = 'meta', which sums in float64 are not known to work on"):
        device_for("meta", "a test")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"device = 'cuda:1', but torch .* sees 1 CUDA devices here"):
        device_for("cuda:1", "a test")


def test_without_torch_only_the_compiled_loops_are_left(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "flwr_robust.engine.torch_device", raising=False)
    with pytest.raises(
        ValueError, match=r"device = 'cpu', but torch cannot be imported .*; install torch, or leave de"
    ):
        device_for("cpu", "a test")
    assert device_for(None, "a test") is CPU
