"""A hostile reply costs no more memory than its own bytes, whatever it declares or carries."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp.strategy import FedAvg, Strategy

from flwr_robust import ARC, LASA, NNM, Krum, Median, TrimmedMean
from tests.flower_messages import FakeGrid, record, reply
from tests.strategies.hostile import header, raw, to_npy, with_header

# Large enough to tell one model's bytes from what a round costs anyway.
MODEL = {"w": np.zeros((300, 250), np.float32), "b": np.zeros(250, np.float32), "n": np.array(3, np.int64)}
BYTES = sum(value.nbytes for value in MODEL.values())
TERABYTE = (250_000, 10**6)
SLACK = 2**17
STRATEGIES = {
    "median": lambda: Median(),
    "krum": lambda: Krum(num_malicious_nodes=1),
    "lasa": lambda: LASA(),
    "arc+nnm+trimmed-mean": lambda: ARC(NNM(TrimmedMean(num_malicious_nodes=1))),
    "foreign": lambda: NNM(FedAvg(), num_malicious_nodes=1),
}


def honest(node: int) -> Message:
    return reply(node, {name: value + node for name, value in MODEL.items() if name != "n"} | {"n": MODEL["n"]})


def with_w(**fields) -> Message:
    arrays = {name: Array(value) for name, value in MODEL.items()}
    return reply(66, ArrayRecord(arrays | {"w": raw(MODEL["w"], **fields)}))


def lying(shape: tuple[int, ...]) -> bytes:
    return with_header(MODEL["w"], header(MODEL["w"], shape=shape))


def ten_models() -> Message:
    return with_w(data=to_npy(np.ones((3_000, 250), np.float32)))


HOSTILE: dict[str, Callable[[], Message]] = {
    "terabyte declared": lambda: with_w(shape=TERABYTE),
    "terabyte in the header": lambda: with_w(data=lying(TERABYTE)),
    "terabyte in both": lambda: with_w(shape=TERABYTE, data=lying(TERABYTE)),
    "terabyte of nothing": lambda: with_w(shape=(10**12, 0), data=lying((10**12, 0))),
    "terabyte of wide strings": lambda: with_w(data=with_header(MODEL["w"], header(MODEL["w"], descr="<U250000000"))),
    "long header": lambda: with_w(data=b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(BYTES)),
    "ten models in one array": ten_models,
    "ten models behind the array": lambda: with_w(data=to_npy(MODEL["w"]) + bytes(10 * BYTES)),
    "ten models declared as ten": lambda: with_w(shape=(3_000, 250), data=to_npy(np.ones((3_000, 250), np.float32))),
    "nine models more": lambda: reply(66, MODEL | {f"w{k}": MODEL["w"] for k in range(9)}),
    "ten models in float64": lambda: reply(66, {k: np.zeros((10, *v.shape)) for k, v in MODEL.items()}),
    "infinity": lambda: reply(66, MODEL | {"b": np.full(250, np.inf, np.float32)}),
}


def peak(strategy: Strategy, replies: list[Message], sent: bool) -> int:
    """Memory that a round takes beside its messages."""
    if sent:
        grid = FakeGrid([1, 2, 3, 4, 66], lambda *_: None)
        list(strategy.configure_train(1, record(MODEL), ConfigRecord(), grid))
    tracemalloc.start()
    arrays, metrics = strategy.aggregate_train(1, replies)
    _, found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrays is not None
    assert metrics["robust/num-quarantined"] == len(replies) - 4
    return found


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "nothing sent"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_hostile_replies_cost_no_memory(name, sent):
    """Next to what the honest ones cost, none of them adds even one model: their bytes are views, or never read."""
    good = [honest(node) for node in (1, 2, 3, 4)]
    strategy = STRATEGIES[name]()
    # A first round pays for imports and caches.
    usual = [peak(strategy, good, sent) for _ in range(2)][1]
    for kind, make in HOSTILE.items():
        cost = peak(strategy, [good[0], make(), *good[1:]], sent) - usual
        # Before NaN is found the reply is a row like the others: a foreign strategy's rows are held in full.
        allowed = SLACK + BYTES if kind == "infinity" else SLACK
        assert cost <= allowed, (kind, cost)
