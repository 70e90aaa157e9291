from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from flwr_robust.engine import cpu
from flwr_robust.engine.cpu import Mixer, block_width, default_threads, for_blocks, for_each


def draw(rows, columns, dtype=np.float64):
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(dtype)


# ---------------------------------------------------------------- mixing


def mixings(n, f):
    rng = np.random.default_rng(n)
    nearest = np.zeros((n, n))
    for i in range(n):
        nearest[i, rng.permutation(n)[: n - f]] = 1 / (n - f)
    factors = rng.uniform(0, 1, n)
    return {
        "neighbours": nearest,
        "clipped neighbours": nearest * factors,
        "clipping": np.diag(factors),
        "selection": np.eye(n)[f:],
        "buckets": np.kron(np.eye(n // 2), [0.5, 0.5]) if n % 2 == 0 else np.eye(n),
        "anything": rng.standard_normal((n + 2, n)),
        "one row": rng.standard_normal((1, n)),
        "nothing": np.zeros((3, n)),
    }


@pytest.mark.parametrize("name", mixings(4, 1))
def test_mixing(name):
    for n, f, columns in [(4, 1, 3), (11, 3, 1500), (30, 6, 1024)]:
        for dtype, tolerance in [(np.float32, 1e-6), (np.float64, 1e-12)]:
            mixing, block = mixings(n, f)[name], draw(n, columns, dtype)
            out = np.full((len(mixing), columns), np.nan, dtype)
            Mixer(mixing)(block, out)
            np.testing.assert_allclose(out, mixing @ block.astype(np.float64), rtol=tolerance, atol=1e-12 * n)


def test_what_rows_agree_on_is_added_up_once():
    assert Mixer(mixings(30, 2)["neighbours"]).sparse
    assert Mixer(mixings(30, 2)["clipping"]).sparse
    assert not Mixer(mixings(30, 2)["anything"]).sparse


def test_one_huge_row_does_not_blur_the_others():
    """A row that few neighbourhoods hold is not first added to all and then taken off again."""
    block = draw(12, 50)
    block[0] *= 1e18
    mixing = np.full((12, 12), 1 / 11) * (1 - np.eye(12)[0])
    mixing[0] = np.eye(12)[0]
    out = np.empty_like(block)
    Mixer(mixing)(block, out)
    np.testing.assert_allclose(out[1:], (mixing @ block)[1:], rtol=1e-12)


# ---------------------------------------------------------------- blocks and threads


class Recorder:
    def __init__(self, width):
        self.width, self.pieces, self.threads = width, [], set()

    def __call__(self, start, stop):
        self.pieces.append((start, stop))
        self.threads.add(threading.get_ident())


@pytest.mark.parametrize("columns", [None, (0, 1000), (100, 101), (65, 700), (5, 5)])
@pytest.mark.parametrize("threads", [None, 1, 2, 3, 50])
def test_every_column_is_worked_on_once(columns, threads):
    updates = SimpleNamespace(n=7, d=1000)
    first, last = columns or (0, 1000)
    workers = for_blocks(updates, Recorder, threads, columns)
    assert len(workers) <= (threads or 1)
    assert all(len(worker.threads) <= 1 for worker in workers)
    pieces = [piece for worker in workers for piece in worker.pieces]
    assert all(0 < stop - start <= workers[0].width for start, stop in pieces)
    assert sorted(column for start, stop in pieces for column in range(start, stop)) == list(range(first, last))
    # The same blocks in each run, so that sums are the same.
    again = for_blocks(updates, Recorder, threads, columns)
    assert [worker.pieces for worker in again] == [worker.pieces for worker in workers]


def test_small_inputs_take_one_thread(monkeypatch):
    monkeypatch.setattr(cpu, "default_threads", lambda: 3)
    assert len(for_blocks(SimpleNamespace(n=10, d=1000), Recorder)) == 1
    assert len(for_blocks(SimpleNamespace(n=10, d=cpu.SMALL // 10 + 1), Recorder)) == 3


def test_an_error_in_a_thread_comes_out():
    def fail(start, stop):
        raise ZeroDivisionError

    for threads in (1, 3):
        with pytest.raises(ZeroDivisionError):
            for_blocks(SimpleNamespace(n=5, d=1000), lambda width: fail, threads)


def test_results_come_in_the_order_of_their_numbers():
    for threads in (1, 2, None):
        assert for_each(lambda number: number**2, range(9), threads) == [number**2 for number in range(9)]
    assert for_each(str, [], 4) == []


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("0", None), ("-2", None), ("two", None), ("", None)])
def test_threads_come_from_the_environment_or_the_cores(asked, expected, monkeypatch):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    monkeypatch.setenv("FLWR_ROBUST_THREADS", asked)
    assert default_threads() == (expected or 7)
    monkeypatch.delattr(cpu.os, "sched_getaffinity")
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: None)
    assert default_threads() == (expected or 1)


def test_buffers_are_a_small_share_of_the_replies(monkeypatch):
    monkeypatch.setattr(cpu, "GRANTED", 2**19)
    for n in (1, 10, 50, 1000):
        for d in (1, 10**4, 10**6, 10**8):
            for threads in (1, 2, 64):
                width = block_width(n, d, threads)
                assert cpu.MIN_WIDTH <= width <= cpu.CPU.max_width
                held = cpu.CPU.host_bytes * n * width
                least = cpu.CPU.host_bytes * n * cpu.MIN_WIDTH
                assert held <= max(cpu.MEMORY_SHARE * 4 * n * d / threads, cpu.GRANTED, least)
                assert 8 * n * width <= max(cpu.CPU.block_bytes, 8 * n * cpu.MIN_WIDTH)
    assert block_width(50, 10**8, 2) == cpu.CPU.block_bytes // (8 * 50)
