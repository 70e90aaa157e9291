"""What is legal, told by NumPy's own reader: it shares no code with the package."""

from __future__ import annotations

import io
from functools import lru_cache
from warnings import catch_warnings, simplefilter

import numpy as np
from flwr.app import Array, Message
from numpy.lib import format as npy

from tests.strategies.hostile.node import FLOATS, LARGEST, STYPE, Arrays


def decoded(message: object, model: Arrays, sent: bool) -> Arrays | None:
    """The arrays of a reply, by NumPy's own reader; None if they cannot be used.

    Parameters
    ----------
    message : object
        A reply, or what arrived in its place.
    model : dict of arrays
        What the arrays must look like.
    sent : bool
        Whether the model was sent, so that the update is the difference from it.
    """
    if not isinstance(message, Message) or message.has_error() or not message.has_content():
        return None
    records = list(message.content.array_records.values())
    if len(records) != 1 or set(records[0]) != set(model):
        return None
    found = {name: _read(records[0][name], value) for name, value in model.items()}
    if any(value is None for value in found.values()):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        row = np.concatenate([np.ravel(found[n] - model[n] if sent else found[n]) for n in model if n in FLOATS])
        return found if np.linalg.norm(row.astype(np.float64)) <= LARGEST else None


# What an array may be declared as.
DECLARED = {
    name: np.dtype(kind)
    for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i8")
    for name in (str(np.dtype(kind)), np.dtype(kind).str)
}


def _read(array: Array, like: np.ndarray) -> np.ndarray | None:
    """Floats and whole numbers are converted where they are in range; a number may have the shape (1,)."""
    dtype, shape = DECLARED.get(array.dtype), tuple(array.shape)
    if (array.dtype, shape) == ("", ()):
        # Nothing is declared, as in what Flower makes of `Parameters`: the header alone counts.
        header = _header(array.data)
        dtype, shape = header if header and header[0] in DECLARED.values() else (None, ())
    if dtype is None or array.stype != STYPE or (shape or (1,)) != (like.shape or (1,)):
        return None
    value = _read_npy(array.data, shape, dtype)
    if value is None:
        return None
    if like.dtype.kind == "f":
        fits = not (np.abs(value[np.isfinite(value)].astype(np.float64)) > LARGEST).any()
    else:
        fits = all(float(x).is_integer() and -(2**63) <= int(x) < 2**63 for x in value.ravel().tolist())
    return value.astype(like.dtype).reshape(like.shape) if fits else None


def _header(data: bytes) -> tuple[np.dtype, tuple[int, ...]] | None:
    stream = io.BytesIO(data)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}
    try:
        with catch_warnings():
            simplefilter("ignore")
            shape, _, dtype = readers[npy.read_magic(stream)](stream)
    except Exception:
        return None
    return dtype.newbyteorder("="), shape


@lru_cache(maxsize=512)
def _read_npy(data: bytes, expected_shape: tuple[int, ...], expected_dtype: np.dtype) -> np.ndarray | None:
    # The header comes first: NumPy would make room for all that it declares.
    if _header(data) != (expected_dtype.newbyteorder("="), expected_shape):
        return None
    stream = io.BytesIO(data)
    try:
        with catch_warnings():
            simplefilter("ignore")
            value = npy.read_array(stream, allow_pickle=False)
    except Exception:
        return None
    return value if stream.read() == b"" else None
