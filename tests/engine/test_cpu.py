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


def pieces_of(updates, threads=None, columns=None):
    """The blocks in the order in which what was found in them is merged, and how many threads worked."""
    workers = []

    def make_worker(width):
        def work(start, stop, found):
            found.append((start, stop))
            assert 0 < stop - start <= width

        workers.append(work)
        return work

    return for_blocks(updates, make_worker, lambda width: [], list.__iadd__, threads, columns), len(workers)


@pytest.mark.parametrize("columns", [None, (0, 1000), (100, 101), (65, 700), (5, 5)])
def test_every_column_is_worked_on_once_and_in_order(columns, monkeypatch):
    monkeypatch.setattr(cpu, "GRANTED", 0)
    updates = SimpleNamespace(n=7, d=1000)
    first, last = columns or (0, 1000)
    for threads in (None, 1, 2, 3, 50):
        pieces, workers = pieces_of(updates, threads, columns)
        assert workers <= (threads or 1)
        assert [column for start, stop in pieces for column in range(start, stop)] == list(range(first, last))
        # The same blocks for any number of threads, so that sums are the same.
        assert pieces == pieces_of(updates, 1, columns)[0]


def test_what_is_found_is_merged_in_order_however_long_it_took(monkeypatch):
    monkeypatch.setattr(cpu, "GRANTED", 0)
    last_is_done = threading.Event()

    def work(start, stop, found):
        if start == 0:
            assert last_is_done.wait(30)
        found.append(start)
        if stop == updates.d:
            last_is_done.set()

    updates = SimpleNamespace(n=7, d=100_000)
    starts = for_blocks(updates, lambda width: work, lambda width: [], list.__iadd__, 2)
    assert starts == list(range(0, updates.d, block_width(updates.n, updates.d)))


def test_small_inputs_take_one_thread(monkeypatch):
    monkeypatch.setattr(cpu, "default_threads", lambda: 3)
    assert pieces_of(SimpleNamespace(n=10, d=1000))[1] == 1
    assert pieces_of(SimpleNamespace(n=10, d=cpu.SMALL // 10 + 1))[1] == 3


def test_an_error_in_a_thread_comes_out():
    def fail(start, stop, found):
        raise ZeroDivisionError

    for threads in (1, 3):
        with pytest.raises(ZeroDivisionError):
            for_blocks(SimpleNamespace(n=5, d=1000), lambda width: fail, lambda width: [], list.__iadd__, threads)


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
            width = block_width(n, d)
            assert cpu.MIN_WIDTH <= width <= cpu.CPU.max_width
            assert 8 * n * width <= max(cpu.CPU.block_bytes, 8 * n * cpu.MIN_WIDTH)
            for threads in (1, 2, 64):
                held = cpu.CPU.host_bytes * n * width
                working = cpu.num_threads(threads, n, d, width, cpu.CPU)
                assert 1 <= working <= threads
                assert held <= cpu.GRANTED or working == 1 or working * held <= 2 * cpu.MEMORY_SHARE * 4 * n * d
    assert block_width(50, 10**8) == cpu.CPU.block_bytes // (8 * 50)
    # A share of 4 % of the replies' bytes for three threads, of 12 bytes a value each.
    assert block_width(50, 10**6) == int(0.04 * 4 * 10**6 / (3 * 12))
