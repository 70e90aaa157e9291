"""A node that replies honestly, and the bytes of its arrays."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from numpy.lib import format as npy

STYPE = "numpy.ndarray"
# Layers of every kind: matrices, a vector, 0-d and empty arrays, and BatchNorm's integer counter.
SHAPES = {
    "conv.weight": (3, 2, 2, 2),
    "bn.bias": (3,),
    "bn.num_batches_tracked": (),
    "scale": (),
    "empty": (0, 3),
    "fc.weight": (4, 3),
}
DTYPES = {name: np.dtype(np.int64 if "tracked" in name else np.float32) for name in SHAPES}
FLOATS = [name for name in SHAPES if DTYPES[name].kind == "f"]
FILLED = [name for name in FLOATS if 0 not in SHAPES[name]]
LARGEST = float(np.finfo(np.float32).max)

Arrays = dict[str, np.ndarray]
Rng = np.random.Generator
# What a pickle did that somebody loaded: it must stay empty.
EXPLODED: list[str] = []


def explode() -> None:
    EXPLODED.append("a pickle of a hostile reply was loaded")


class Bomb:
    def __reduce__(self):
        return explode, ()


@dataclass
class Node:
    """A node, the message that asked it, and what it would send if it were honest."""

    id: int
    asked: Message
    arrays: Arrays
    record: ArrayRecord

    def reply(self, content: RecordDict | Error) -> Message:
        return Message(content, reply_to=self.asked)

    def content(self, metrics: MetricRecord | ConfigRecord | None = None, **changed: Array) -> RecordDict:
        """Return the honest content with some arrays in place of its own."""
        metrics = honest_metrics(0.5) if metrics is None else metrics
        return RecordDict({"arrays": ArrayRecord({**self.record, **changed}), "metrics": metrics})


def honest_metrics(value: float) -> MetricRecord:
    return MetricRecord({"num-examples": 10, "loss": value, "parts": [value, -value], "steps": 7})


def draw_arrays(rng: Rng, around: Arrays | None = None) -> Arrays:
    """A model, or one step from a model."""
    made = {}
    for name, shape in SHAPES.items():
        value = rng.standard_normal(shape) if DTYPES[name].kind == "f" else rng.integers(0, 100, shape)
        start = 0 if around is None else around[name]
        made[name] = np.asarray(start + value).astype(DTYPES[name])
    return made


def to_npy(value: np.ndarray, version: tuple[int, int] | None = None, pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    npy.write_array(stream, value, version=version, allow_pickle=pickle)
    return stream.getvalue()


def raw(value: np.ndarray, **fields) -> Array:
    """An Array with some of its fields replaced by lies."""
    honest = {"dtype": str(value.dtype), "shape": value.shape, "stype": STYPE, "data": to_npy(value)}
    return Array(**(honest | fields))


def with_header(value: np.ndarray, header: bytes, version: bytes = b"\x01\x00") -> bytes:
    """The value's bytes under this text as header."""
    width = 2 if version == b"\x01\x00" else 4
    padding = -(8 + width + len(header) + 1) % 64
    header = header + b" " * padding + b"\n"
    return npy.MAGIC_PREFIX + version + len(header).to_bytes(width, "little") + header + value.tobytes()


def header(value: np.ndarray, **fields) -> bytes:
    parts = {"descr": npy.dtype_to_descr(value.dtype), "fortran_order": False, "shape": value.shape} | fields
    return repr(parts).encode("latin1")


def pick(rng: Rng, values):
    return values[int(rng.integers(len(values)))]
