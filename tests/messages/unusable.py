"""Records that do not fit the model of most replies, each with the reason that a report gives."""

from __future__ import annotations

import io

import numpy as np
from flwr.app import Array, ArrayRecord

from tests.flower_messages import record

MODEL = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32), "count": np.array(3, np.int64)}


def npy(array, version=None, allow_pickle=False):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=allow_pickle)
    return stream.getvalue()


def with_w(array=None, **fields):
    """The model, with a "w" that is this array, or an Array of these raw fields."""
    raw = {"dtype": "float32", "shape": (2, 3), "stype": "numpy.ndarray", "data": npy(MODEL["w"])} | fields
    made = Array(array) if array is not None else Array(**raw)
    return ArrayRecord({"w": made, "b": Array(MODEL["b"]), "count": Array(MODEL["count"])})


def replaced(old, new):
    data = npy(MODEL["w"])
    assert data.count(old) == 1
    return data.replace(old, new)


RECORDS = {
    "empty record": (ArrayRecord(), "arrays missing"),
    "missing key": (record({"w": MODEL["w"], "b": MODEL["b"]}), r"missing: \['count'\]"),
    "extra key": (record({**MODEL, "backdoor": MODEL["b"]}), r"not in most replies: \['backdoor'\]"),
    "shape": (with_w(np.zeros((3, 2), np.float32)), r"has the shape \(3, 2\); in most replies \(2, 3\)"),
    "beyond float32": (with_w(np.full((2, 3), -1e39)), "beyond float32"),
    "fractions": (record({**MODEL, "count": np.array(2.5)}), "no whole numbers, where int64 is expected"),
    "beyond int64": (record({**MODEL, "count": np.array(2.0**63)}), "beyond int64"),
    "not finite where integers are": (record({**MODEL, "count": np.array(np.nan)}), "1 value that is not finite"),
    "complex": (with_w(np.zeros((2, 3), np.complex64)), "the dtype 'complex64'"),
    "terabyte declared": (with_w(shape=(10**6, 10**6)), "declared as float32"),
    "terabyte in the header": (with_w(data=replaced(b"(2, 3), }", b"(1000000, 1000000), }")), "its bytes hold"),
    "other stype": (with_w(stype="pickle"), "serialised as 'pickle'"),
    "no npy": (with_w(data=b"\x00" * 152), "no .npy"),
    "no bytes": (with_w(data=b""), "no .npy"),
    "truncated": (with_w(data=npy(MODEL["w"])[:-1]), "bytes, not"),
    "padded": (with_w(data=npy(MODEL["w"]) + b"0"), "bytes, not"),
    "header lies": (with_w(data=npy(np.zeros((3, 2), np.float32))), r"hold float32 \(3, 2\)"),
    "header dtype": (with_w(data=npy(np.zeros((2, 3), np.int32))), "hold int32"),
    "objects": (with_w(data=npy(np.full((2, 3), None), allow_pickle=True)), "hold object"),
    "header is code": (with_w(data=replaced(b"'<f4'", b"id(0)")), "no .npy"),
    "header overlong": (with_w(data=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}"), "no .npy"),
    "version": (with_w(data=npy(MODEL["w"]).replace(b"NUMPY\x01", b"NUMPY\x09")), "no .npy"),
}
NOT_FINITE = {str(value): with_w(np.float32([[0, 0, 0], [0, 0, value]])) for value in (np.nan, np.inf)}
