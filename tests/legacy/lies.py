"""What a client of Flower's older interface may answer instead of the truth: changes of an honest message.

`FITS` are FitRes and EvaluateRes all the same, if bad ones. `MESSAGES` are none: Flower fails on them before any
strategy sees them.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from tests.strategies import hostile


def is_fit(message):
    return "fitres.parameters" in message.content


def tensors(message):
    return [array.data for array in message.content["fitres.parameters"].values()]


def send(message, data):
    """Put other bytes in the place of the parameters, as Flower would: without any declaration."""
    arrays = {str(place): Array(dtype="", shape=(), stype="numpy.ndarray", data=one) for place, one in enumerate(data)}
    message.content["fitres.parameters"] = ArrayRecord(arrays)
    return message


def with_bytes(kind):
    """Replace the first array by bytes that are no such array, and the loss by NaN."""

    def lie(message):
        if not is_fit(message):
            message.content["evaluateres.loss"] = MetricRecord({"loss": float("nan")})
            return message
        first, *others = tensors(message)
        bad = hostile.ARRAYS[kind](np.random.default_rng(3), np.load(BytesIO(first)))
        return send(message, [bad.data, *others])

    return lie


def not_finite(message):
    return send(message, [hostile.to_npy(np.load(BytesIO(data)) * np.nan) for data in tensors(message)])


def terabyte(message):
    first, *others = tensors(message)
    value = np.load(BytesIO(first))
    return send(message, [hostile.with_header(value, hostile.header(value, shape=(10**12,))), *others])


def one_more(message):
    return send(message, [*tensors(message), tensors(message)[0]])


def one_less(message):
    return send(message, tensors(message)[:-1])


def none_at_all(message):
    return send(message, [])


def unable(message):
    kind = "fitres" if is_fit(message) else "evaluateres"
    message.content[f"{kind}.status"] = ConfigRecord({"code": 3, "message": "no fit\nhere"})
    return message


def broken(message):
    return Message(Error(0, "out of memory"), reply_to=message)


def silent(message):
    return None


def empty(message):
    return Message(RecordDict(), reply_to=message)


def unknown_status(message):
    for name in [name for name in message.content if name.endswith(".status")]:
        message.content[name] = ConfigRecord({"code": 99, "message": ""})
    return message


def metrics_with_a_list(message):
    for name in [name for name in message.content if name.endswith(".metrics")]:
        message.content[name] = ConfigRecord({"accuracy": [1.0, 2.0]})
    return message


def no_examples(message):
    for name in [name for name in message.content if name.endswith(".num_examples")]:
        del message.content[name]
    return message


def in_fits(lie):
    return lambda message: lie(message) if is_fit(message) else message


KINDS = ("truncated", "padded", "garbage", "garbage_header", "header_code", "header_version", "pickled")
FITS = {kind: with_bytes(kind) for kind in KINDS}
FITS |= {lie.__name__: in_fits(lie) for lie in (not_finite, terabyte, one_more, one_less, none_at_all)}
FITS |= {lie.__name__: lie for lie in (unable, broken, silent)}
MESSAGES = {lie.__name__: lie for lie in (empty, unknown_status, metrics_with_a_list, no_examples)}
