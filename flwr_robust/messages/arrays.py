"""Arrays in messages: `.npy` bytes, read without a copy, and the layout of a model.

Nothing of a payload is interpreted before its header agrees with what is expected, and what is read are views of the
reply's own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from math import prod
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.lib import format as npy
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.updates import Layer

# numpy.load reads no longer header without the caller's leave either.
MAX_HEADER = 10_000
NUMPY_STYPE = "numpy.ndarray"
# Looked up by name: nothing that a node declares reaches NumPy's parser of dtypes, which accepts far more.
PLAIN = "bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
DTYPES = {name: np.dtype(name) for name in PLAIN.split()}
# Values that are turned into a new model at a time.
CHUNK = 2**16


class RejectedError(ValueError):
    """Why a reply cannot be used; the text becomes the reason in the report."""


@dataclass(frozen=True)
class Layout:
    """Names, dtypes and shapes of a model's arrays, in order.

    Attributes
    ----------
    entries : tuple of (name, dtype, shape)
        All arrays.
    """

    entries: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]

    @classmethod
    def of(cls, record: Mapping[str, Array]) -> Layout:
        """Layout that a record declares.

        Raises
        ------
        RejectedError
            If it declares a dtype other than float16, float32, float64, an integer or bool, or a negative size.
        """
        entries = []
        for name, array in record.items():
            dtype = DTYPES.get(str(array.dtype))
            if dtype is None:
                raise RejectedError(
                    f"array {name!r} has the dtype {str(array.dtype)[:40]!r}; floats and integers can be used"
                )
            if any(size < 0 for size in array.shape):
                raise RejectedError(f"array {name!r} has the shape {str(tuple(array.shape))[:80]}")
            entries.append((name, dtype, tuple(array.shape)))
        return cls(tuple(entries))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The float arrays, as columns of the updates."""
        made: list[Layer] = []
        start = 0
        for name, dtype, shape in self.entries:
            if dtype.kind == "f":
                made.append(Layer(name, shape, start, start + prod(shape)))
                start += prod(shape)
        return tuple(made)

    def read(self, record: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
        """Return flat views of the arrays of a record that has this layout, in this layout's order.

        Raises
        ------
        RejectedError
            If keys, dtypes, shapes (declared or in the bytes) or lengths differ.
        """
        names = {name for name, _, _ in self.entries}
        if record.keys() != names:
            missing, extra = sorted(names - record.keys()), sorted(record.keys() - names)
            raise RejectedError(f"arrays missing: {str(missing[:3])[:120]}, not asked for: {str(extra[:3])[:120]}")
        return {name: _read_array(name, record[name], dtype, shape) for name, dtype, shape in self.entries}

    def step(
        self,
        model: Mapping[str, NDArray[Any]] | None,
        update: FloatArray,
        rate: float,
        integers: Mapping[str, NDArray[Any]],
    ) -> ArrayRecord:
        """Return ``model + rate * update`` as a record; the integer arrays are given. Overwrites the update.

        Parameters
        ----------
        model : mapping of str to array, or None
            Flat arrays of the model that was sent; None where there was none.
        update : (d,) array
            Values of the float arrays, in the order of `layers`.
        rate : float
            What the update is multiplied by.
        integers : mapping of str to array
            Flat values of the other arrays.
        """
        columns = {layer.name: slice(layer.start, layer.stop) for layer in self.layers}
        made: dict[str, Array] = {}
        for name, dtype, shape in self.entries:
            if name in columns:
                values = update[columns[name]]
                _step(None if model is None else model[name], values, rate, dtype)
                made[name] = make_array(values.astype(dtype, copy=False), shape)
            else:
                made[name] = make_array(integers[name], shape)
        return ArrayRecord(made)

    def integers(self, replies: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the coordinate-wise lower median of each integer array, such as BatchNorm's counters."""
        return {
            name: _lower_median([arrays[name] for arrays in replies])
            for name, dtype, _ in self.entries
            if dtype.kind != "f"
        }


def _read_array(name: str, array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Flat view of an array's bytes, once declaration and header agree with what is expected."""
    if array.stype != NUMPY_STYPE:
        raise RejectedError(f"array {name!r} is serialised as {str(array.stype)[:40]!r}, not {NUMPY_STYPE!r}")
    if DTYPES.get(str(array.dtype)) != dtype or tuple(array.shape) != shape:
        raise RejectedError(
            f"array {name!r} is declared as {str(array.dtype)[:40]} {str(tuple(array.shape))[:80]}, "
            f"but {dtype} {shape} was sent"
        )
    data = array.data
    usual, size = _usual_header(dtype, shape)
    if len(data) == len(usual) + size * dtype.itemsize and data.startswith(usual):
        return np.frombuffer(data, dtype, size, len(usual))
    header = read_header(data)
    if header is None:
        raise RejectedError(f"array {name!r} holds bytes that are no .npy file")
    found_shape, fortran, found_dtype, offset = header
    if found_dtype != dtype or found_shape != shape:
        raise RejectedError(
            f"array {name!r} holds {found_dtype} {str(found_shape)[:80]} in its bytes, not {dtype} {shape}"
        )
    if len(data) != offset + size * dtype.itemsize:
        raise RejectedError(f"array {name!r} holds {len(data)} bytes, not {offset + size * dtype.itemsize}")
    flat = np.frombuffer(data, dtype, size, offset)
    # Fortran order is legal, if rare: bring the values into the order of the others.
    return flat.reshape(shape, order="F").ravel() if fortran and len(shape) > 1 else flat


@lru_cache(maxsize=4096)
def _usual_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[bytes, int]:
    """Return the header that NumPy writes before such an array, and how many values follow.

    Nearly all replies begin with it: to compare it is quicker than to parse it.
    """
    stream = BytesIO()
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, described)
    return stream.getvalue(), prod(shape)


def read_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int] | None:
    """Return shape, Fortran order, dtype and offset of the values of a .npy file; None if it is none."""
    version = data[6:8]
    width = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(version)
    if data[:6] != npy.MAGIC_PREFIX or width is None:
        return None
    offset = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if offset > min(MAX_HEADER, len(data)):
        return None
    return _parse_header(data[:offset])


@lru_cache(maxsize=512)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int] | None:
    stream = BytesIO(header)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with catch_warnings():
            # What a node sends neither warns the user of odd spellings nor, where warnings are errors, raises.
            simplefilter("ignore")
            shape, fortran, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, UnicodeDecodeError):
        return None
    return shape, fortran, dtype, len(header)


def make_array(values: FloatArray | NDArray[Any], shape: tuple[int, ...]) -> Array:
    """Serialise flat C-ordered values with one copy, where ``Array(ndarray)`` makes several."""
    header, size = _usual_header(values.dtype, shape)
    data = b"".join((header, np.ascontiguousarray(values).data.cast("B") if size else b""))
    return Array(dtype=str(values.dtype), shape=shape, stype=NUMPY_STYPE, data=data)


def _step(model: FloatArray | None, update: FloatArray, rate: float, dtype: np.dtype[Any]) -> None:
    """Overwrite the update by ``model + rate * update``, within the range of the model's dtype."""
    largest = float(np.finfo(dtype).max)
    for start in range(0, update.size, CHUNK):
        part = update[start : start + CHUNK]
        values = rate * part.astype(np.float64)
        if model is not None:
            values += model[start : start + CHUNK]
        np.clip(values, -largest, largest, out=values)
        part[:] = values


def _lower_median(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the coordinate-wise median in the arrays' own dtype: of an even number the lower of the middle two."""
    result = np.empty_like(rows[0])
    middle = (len(rows) - 1) // 2
    for start in range(0, result.size, CHUNK):
        block = np.stack([row[start : start + CHUNK] for row in rows])
        result[start : start + CHUNK] = np.partition(block, middle, axis=0)[middle]
    return result
