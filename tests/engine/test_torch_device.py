"""A device holds a few blocks at a time, however many threads work, and what is made of them there is a few blocks too.

torch's CPU stands in for a GPU: blocks are counted as they come and go, and so is every tensor that operations make.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

from flwr_robust import rules
from flwr_robust.engine import cpu as parallel
from flwr_robust.engine.choose import device_for
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.run import run
from tests.rules import references
from tests.rules.chains import RULES, VARIANTS, N, assert_same, make, on, run_on
from tests.rules.data import assert_close, matrix

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - needs torch
from torch.utils._pytree import tree_leaves  # noqa: E402

from flwr_robust.engine import torch_device  # noqa: E402

# What there may be of a block, in multiples of its size as float64: itself, its float64 copy, the mixed block, sorted
# values with their places, and one of what comes between.
COPIES = 6
# Blocks are at least 64 columns wide: these make several.
D = 1000


class Memory:
    """The device's memory: knows the bytes of all tensors that live there, and the most that ever did."""

    def __init__(self):
        self.lock = threading.Lock()
        self.blocks, self.most_blocks, self.given = 0, 0, 0
        self.sizes, self.holders, self.peak = {}, {}, 0

    def place(self, block):
        """Copy a block here."""
        placed = block.clone()
        with self.lock:
            self.blocks, self.given = self.blocks + 1, self.given + 1
            self.most_blocks = max(self.most_blocks, self.blocks)
        weakref.finalize(placed, self._leave)
        self.hold(placed)
        time.sleep(0.001)  # others come meanwhile, if they may
        return placed

    def hold(self, tensor):
        """Count what a tensor lies in until the last tensor that lies there is gone."""
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        with self.lock:
            self.sizes[key] = storage.nbytes()
            self.holders[key] = self.holders.get(key, 0) + 1
            self.peak = max(self.peak, sum(self.sizes.values()))
        weakref.finalize(tensor, self._let_go, key)

    def _leave(self):
        with self.lock:
            self.blocks -= 1

    def _let_go(self, key):
        with self.lock:
            self.holders[key] -= 1
            if not self.holders[key]:
                del self.holders[key], self.sizes[key]


class Watched(TorchDispatchMode):
    """Has a memory hold what each operation of this thread returns."""

    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor):
                self.memory.hold(made)
        return result


@pytest.fixture
def memory(monkeypatch):
    """Have torch's CPU keep count as the memory of a GPU of its own."""
    memory, place = Memory(), torch_device.TorchDevice.place

    @contextmanager
    def watched(device):
        with place(device), Watched(memory):
            yield

    monkeypatch.setattr(torch_device.TorchDevice, "put", lambda self, block: memory.place(block))
    monkeypatch.setattr(torch_device.TorchDevice, "place", watched)
    return memory


@pytest.mark.parametrize(
    "spec", [*RULES, *VARIANTS, "arc+nnm+trimmed-mean", "static-clipping+median", "bucketing+krum"]
)
def test_few_blocks_are_on_the_device_at_a_time(spec, memory, monkeypatch):
    X, width = matrix("normal", N, D, seed=9), 84
    monkeypatch.setattr(parallel, "block_width", lambda *_: width)
    found = run_on("cpu", make(spec), X, threads=8)
    # Several at a time, of the 12 that each pass there takes; LASA's own passes take none.
    passes, rest = divmod(memory.given, 12)
    assert rest == 0
    # These two have passes of their own alone, on the CPU.
    assert 0 < passes <= found.passes or spec in ("lasa", "residual-reweighting")
    assert memory.most_blocks <= torch_device.RESIDENT
    assert memory.peak <= torch_device.RESIDENT * COPIES * N * width * 8
    assert memory.blocks == 0
    assert not memory.sizes
    assert_same(found, run_on(None, make(spec), X, threads=8), X)


def test_a_place_is_given_back_after_an_error():
    device = device_for("cpu", "a test")
    for _ in range(2 * torch_device.RESIDENT):
        with pytest.raises(ZeroDivisionError), device.place():
            raise ZeroDivisionError
    X = matrix("normal", N, D, seed=10)
    assert_close(run(rules.Mean(), on("cpu", Updates.of_rows(X))).vector, references.mean(X), X)


# ---------------------------------------------------------------- CUDA's streams, faked


class Stream:
    """Stands in for torch.cuda.Stream: what is copied on it has arrived only once it is synchronised."""

    def __init__(self):
        self.blocks, self.waits, self.pending = 0, 0, False

    def __enter__(self):
        assert not self.pending
        self.blocks, self.pending = self.blocks + 1, True

    def synchronize(self):
        self.waits, self.pending = self.waits + 1, False

    def __exit__(self, *error):
        pass


@pytest.fixture
def faked(monkeypatch):
    """A CUDA device whose blocks lie on the CPU, its streams, and whether what is allocated is to be pinned."""
    streams, pinned, empty = [], [], torch.empty

    def make_stream(device):
        streams.append(Stream())
        return streams[-1]

    def make_empty(size, *, pin_memory=False, **options):
        pinned.append(pin_memory)
        return empty(size, **options)  # to pin memory takes a driver

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "Stream", make_stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch, "empty", make_empty)
    torch_device.torch_device.cache_clear()
    device = device_for("cuda", "a test")
    device.torch = torch.device("cpu")
    yield device, streams, pinned
    torch_device.torch_device.cache_clear()


def test_every_block_has_a_stream_and_waits_for_it(faked):
    device, streams, pinned = faked
    assert (device.name, device.is_cuda, len(streams)) == ("cuda:1", True, torch_device.RESIDENT)
    assert device_for("cuda:1", "a test") is device
    X = matrix("normal", N, D, seed=11)
    updates = Updates.of_rows(X)
    updates.device = device
    found = run(make("arc+nnm+trimmed-mean"), updates, threads=4)
    assert_same(found, run(make("arc+nnm+trimmed-mean"), Updates.of_rows(X)), X)
    # Two passes, in blocks of the least width.
    assert sum(stream.blocks for stream in streams) == 2 * -(-D // parallel.MIN_WIDTH)
    assert all(stream.waits == stream.blocks and not stream.pending for stream in streams)
    assert pinned
    assert all(pinned)


# ---------------------------------------------------------------- tensors as updates


def test_tensors_are_read_like_arrays():
    X = matrix("integers", 5, 90, seed=3)
    below = [np.arange(90.0, dtype=np.float32)]
    whole = np.vstack([X, *below])
    weights, columns = np.array([1.0, 0.0, -2.0, 0.5, 0.0, 3.0]), np.array([0, 7, 89])
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        updates = torch_device.TensorUpdates(torch.from_numpy(X).to(dtype)).stacked(below)
        assert (updates.n, updates.d) == (6, 90)
        assert updates.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        out, total, squares = np.empty((6, 20), updates.dtype), np.zeros(20), np.zeros(6)
        updates.read(3, 23, out)
        np.testing.assert_array_equal(out, whole[:, 3:23])
        updates.read(3, 5, out[:2], [5, 2])
        np.testing.assert_array_equal(out[:2, :2], whole[[5, 2], 3:5])
        updates.accumulate(3, 23, weights, total, squares)
        np.testing.assert_allclose(total, weights @ whole[:, 3:23])
        np.testing.assert_allclose(squares, np.square(whole[:, 3:23]).sum(axis=1))
        np.testing.assert_array_equal(updates.take(columns), whole[:, columns])


def test_a_block_is_a_view_unless_something_is_below():
    tensor = torch.ones(3, 5)
    updates = torch_device.TensorUpdates(tensor)
    assert updates.block(1, 4, torch.device("cpu")).data_ptr() == tensor[:, 1:].data_ptr()
    block = updates.stacked([np.arange(5.0, dtype=np.float32)]).block(1, 4, torch.device("cpu"))
    assert block.tolist() == [[1.0] * 3] * 3 + [[1.0, 2.0, 3.0]]
    assert updates.home is updates.device is device_for("cpu", "a test")
