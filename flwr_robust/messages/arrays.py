"""Arrays as they travel: `.npy` bytes, read where they lie, and the layout of a model.

Nothing of a payload is interpreted before its header agrees with what the record declares, and what is read are views
of the reply's own bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from io import BytesIO
from math import prod
from tokenize import TokenError
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
# Looked up by name: NumPy's parser of dtypes, which takes whole languages, sees nothing that a node declares.
PLAIN = [
    np.dtype(f"{kind}{bits}")
    for kind in ("int", "uint", "float")
    for bits in (8, 16, 32, 64)
    if (kind, bits) != ("float", 8)
]
DTYPES = {
    name: dtype
    for dtype in (np.dtype(bool), *PLAIN)
    for name in (str(dtype), *(order + dtype.str[1:] for order in "<>=|"))
}
# Values that are turned into a new model at a time.
CHUNK = 2**16
# What the names of running statistics contain: torch's, Keras' and flax's.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked", "moving_mean", "moving_variance", "batch_stats")

# Kinds of reasons that the honest nodes of a project that is set up wrongly share.
LAYOUT, DTYPE, NOT_FINITE, NOT_ARRAYS = "layout", "dtype", "not finite", "not arrays"


class RejectedError(ValueError):
    """Why a reply cannot be used; the text becomes the reason in the report.

    Attributes
    ----------
    kind : str or None
        One of the kinds above, if the reason is of one.
    """

    def __init__(self, reason: str, kind: str | None = None) -> None:
        self.kind = kind
        super().__init__(reason)


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class Arrays:
    """The arrays of a record.

    Attributes
    ----------
    values : dict of str to 1-D array
        Flat views of their values, in the order of the record.
    shapes : dict of str to tuple of int
        Their shapes.
    """

    values: dict[str, NDArray[Any]]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, record: Mapping[str, Array]) -> Arrays:
        """Read a record.

        Raises
        ------
        RejectedError
            If an array is no `.npy` file of floats up to 64 bits, integers or bool, of the shape and length that it
            declares.
        """
        declared = {name: _declared(array) for name, array in record.items()}
        values = {name: _read_array(name, array, *declared[name]) for name, array in record.items()}
        return cls(values, {name: shape for name, (_, shape) in declared.items()})

    @cached_property
    def names_and_shapes(self) -> frozenset[tuple[str, tuple[int, ...]]]:
        """What is compared between replies; a number may have the shape () or (1,)."""
        return frozenset((name, shape or (1,)) for name, shape in self.shapes.items())

    def entry(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return dtype, in the machine's byte order, and shape of an array."""
        return self.values[name].dtype.newbyteorder("="), self.shapes[name]

    @cached_property
    def holes(self) -> dict[str, NDArray[np.intp]]:
        """Places of the values that are not finite, by the names of the arrays that have any."""
        found = {}
        for name, values in self.values.items():
            # The extremes, which NumPy finds fastest, are NaN if there is one.
            if values.dtype.kind == "f" and values.size and not np.isfinite([values.max(), values.min()]).all():
                found[name] = np.flatnonzero(~np.isfinite(values))
        return found


def _declared(array: Array) -> tuple[str, tuple[int, ...]]:
    """Return an array's dtype and shape as declared; as its header has them, where nothing is declared.

    So it is with the arrays that Flower makes of the older interface's `Parameters`.
    """
    if str(array.dtype) or tuple(array.shape):
        return str(array.dtype), tuple(array.shape)
    header = read_header(array.data)
    return ("", ()) if header is None else (str(header[2]), header[0])


def _read_array(name: str, array: Array, dtype_name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Flat view of an array's bytes, once declaration and header agree."""
    if not dtype_name:
        raise RejectedError(f"array {name!r} holds bytes that are no .npy file", NOT_ARRAYS)
    dtype = DTYPES.get(dtype_name)
    if dtype is None:
        raise RejectedError(
            f"array {name!r} has the dtype {dtype_name[:40]!r}; floats of 16 to 64 bits and integers can be used", DTYPE
        )
    if array.stype != NUMPY_STYPE:
        raise RejectedError(
            f"array {name!r} is serialised as {str(array.stype)[:40]!r}, not {NUMPY_STYPE!r}", NOT_ARRAYS
        )
    if any(size < 0 for size in shape):
        raise RejectedError(f"array {name!r} has the shape {str(shape)[:80]}", NOT_ARRAYS)
    data = array.data
    usual, size = _usual_header(dtype, shape) if prod(shape) <= len(data) else (b"", prod(shape))
    if usual and len(data) == len(usual) + size * dtype.itemsize and data.startswith(usual):
        return np.frombuffer(data, dtype, size, len(usual))
    header = read_header(data)
    if header is None:
        raise RejectedError(f"array {name!r} holds bytes that are no .npy file", NOT_ARRAYS)
    found_shape, fortran, found_dtype, offset = header
    if found_dtype.newbyteorder("=") != dtype or found_shape != shape:
        raise RejectedError(
            f"array {name!r} is declared as {dtype} {str(shape)[:80]}, but its bytes hold "
            f"{found_dtype} {str(found_shape)[:80]}",
            NOT_ARRAYS,
        )
    if len(data) != offset + size * dtype.itemsize:
        raise RejectedError(f"array {name!r} holds {len(data)} bytes, not {offset + size * dtype.itemsize}", NOT_ARRAYS)
    flat = np.frombuffer(data, found_dtype, size, offset)
    # Fortran order is legal, if rare: bring the values into the order of the others.
    return flat.reshape(shape, order="F").ravel() if fortran and len(shape) > 1 else flat


@lru_cache(maxsize=4096)
def _usual_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[bytes, int]:
    """Return the header that NumPy writes before such an array, and how many values follow.

    Nearly all replies begin with it: to compare it is quicker than to take it apart.
    """
    stream = BytesIO()
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, described)
    header = stream.getvalue()
    return header, prod(shape)


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
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
        return None
    return shape, fortran, dtype, len(header)


def make_array(values: FloatArray | NDArray[Any], shape: tuple[int, ...]) -> Array:
    """Serialise flat C-ordered values with one copy, where ``Array(ndarray)`` makes several."""
    stream = BytesIO()
    npy.write_array_header_1_0(
        stream, {"descr": npy.dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
    )
    data = b"".join((stream.getvalue(), np.ascontiguousarray(values).data.cast("B") if values.size else b""))
    return Array(dtype=str(values.dtype), shape=shape, stype=NUMPY_STYPE, data=data)


# ---------------------------------------------------------------- what a model looks like


@dataclass(frozen=True)
class Apart:
    """What is aggregated apart from the updates.

    Attributes
    ----------
    fixed : dict of str to array
        Flat values of whole arrays: running statistics, integers.
    patches : dict of str to (places, values)
        Values within other arrays, where what was sent is not finite.
    """

    fixed: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    patches: Mapping[str, tuple[NDArray[np.intp], NDArray[Any]]] = field(default_factory=dict)

    def put(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Return an array's flat values with what is known better."""
        values = self.fixed.get(name, values)
        if name in self.patches:
            places, put = self.patches[name]
            values = values.copy()
            values[places] = put
        return values


@dataclass(frozen=True)
class Layout:
    """Names, dtypes and shapes of a model's arrays, in order, and how each is aggregated.

    Attributes
    ----------
    entries : tuple of (name, dtype, shape)
        All arrays.
    statistics : tuple of str
        Patterns of names (`fnmatch`) of further running statistics than those of `STATISTICS`.
    """

    entries: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...] = ()
    statistics: tuple[str, ...] = ()

    @classmethod
    def most_common(
        cls, replies: Sequence[Arrays], sent: Arrays | None = None, statistics: Sequence[str] = ()
    ) -> Layout | None:
        """Return the layout that more than half of the replies share; None if none does.

        Order, dtypes and shapes are those of the model that was sent; of arrays that were not sent, those of most
        replies.
        """
        counts = Counter(reply.names_and_shapes for reply in replies)
        most, count = counts.most_common(1)[0] if counts else (frozenset(), 0)
        if 2 * count <= len(replies):
            return None
        alike = [reply for reply in replies if reply.names_and_shapes == most]
        order = Counter(tuple(reply.values) for reply in alike).most_common(1)[0][0]
        known = {
            name: sent.entry(name)
            for name, shape in most
            if sent is not None and name in sent.values and (sent.shapes[name] or (1,)) == shape
        }
        names = [name for name in sent.values if name in known] if sent is not None else []
        entries = [
            (name, *(known.get(name) or Counter(reply.entry(name) for reply in alike).most_common(1)[0][0]))
            for name in dict.fromkeys([*names, *order])
        ]
        return cls(tuple(entries), tuple(statistics))

    @cached_property
    def learned(self) -> tuple[Layer, ...]:
        """The arrays that rules aggregate, as columns of the updates: floats; integers where there are none."""
        others = [entry for entry in self.entries if not self.is_statistic(entry[0])]
        return _layers([entry for entry in others if entry[1].kind == "f"] or others)

    @cached_property
    def statistic(self) -> tuple[Layer, ...]:
        """The running statistics that are floats, as columns."""
        return _layers([e for e in self.entries if e[1].kind == "f" and self.is_statistic(e[0])])

    @cached_property
    def counted(self) -> list[str]:
        """Names of the integer arrays that no rule sees."""
        apart = {layer.name for layer in (*self.learned, *self.statistic)}
        return [name for name, *_ in self.entries if name not in apart]

    def dtype_of(self, layers: Sequence[Layer]) -> np.dtype[Any]:
        """Return the dtype in which these arrays are read as columns: float32, or float64 where one needs it."""
        names = {layer.name for layer in layers}
        wide = any(dtype.itemsize > (4 if dtype.kind == "f" else 2) for name, dtype, _ in self.entries if name in names)
        return np.dtype(np.float64 if wide else np.float32)

    def is_statistic(self, name: str) -> bool:
        """Whether an array holds running statistics, by its name."""
        return any(part in name for part in STATISTICS) or any(fnmatchcase(name, p) for p in self.statistics)

    def known(self, model: Arrays | None) -> dict[str, NDArray[Any]]:
        """Return the values of a model's arrays that this layout has too, in the same shape."""
        values = {} if model is None else model.values
        return {
            name: values[name]
            for name, _, shape in self.entries
            if model is not None and name in values and (model.shapes[name] or (1,)) == (shape or (1,))
        }

    def read(self, arrays: Arrays, holes: Mapping[str, NDArray[np.intp]]) -> dict[str, NDArray[Any]]:
        """Return the values of a reply that has this layout, in its order.

        Integer arrays and statistics come in the layout's dtypes; learned ones as the node sent them.

        Parameters
        ----------
        arrays : Arrays
            What the node sent.
        holes : mapping of str to array of int
            Places that need not be finite.

        Raises
        ------
        RejectedError
            If names or shapes differ, or values are beyond the range of the layout's dtypes or, outside the learned
            arrays, not finite.
        """
        self._require_same(arrays)
        learned = {layer.name for layer in self.learned}
        read = {}
        for name, dtype, _ in self.entries:
            values = arrays.values[name]
            if dtype.kind != "f":
                values = _whole_numbers(name, values, dtype)
            elif name not in learned:
                require_finite(name, values, holes.get(name))
            if dtype.kind == "f":
                _require_in_range(name, values, dtype)
            read[name] = values
        return read

    def _require_same(self, arrays: Arrays) -> None:
        shapes = {name: shape for name, _, shape in self.entries}
        missing, extra = sorted(shapes.keys() - arrays.shapes.keys()), sorted(arrays.shapes.keys() - shapes.keys())
        if missing or extra:
            raise RejectedError(f"arrays missing: {_some(missing)}, not in most replies: {_some(extra)}", LAYOUT)
        for name, shape in shapes.items():
            if (arrays.shapes[name] or (1,)) != (shape or (1,)):
                raise RejectedError(
                    f"array {name!r} has the shape {str(arrays.shapes[name])[:80]}; in most replies {shape}", LAYOUT
                )

    def step(
        self,
        model: Mapping[str, NDArray[Any]],
        update: FloatArray,
        rate: float,
        apart: Apart,
    ) -> ArrayRecord:
        """Return ``model + rate * update`` as a record. Overwrites the update.

        Parameters
        ----------
        model : mapping of str to array
            Flat arrays that the update is added to; what is not among them is zero.
        update : (d,) array
            Values of the learned arrays.
        rate : float
            What the update is multiplied by.
        apart : Apart
            The other arrays, and values that are put into these.
        """
        columns = {layer.name: slice(layer.start, layer.stop) for layer in self.learned}
        made: dict[str, Array] = {}
        for name, dtype, shape in self.entries:
            if name in columns:
                values = update[columns[name]]
                _step(model.get(name), values, rate, dtype)
                values = (values if dtype.kind == "f" else np.rint(values)).astype(dtype, copy=False)
            else:
                values = apart.fixed[name]
            made[name] = make_array(apart.put(name, values), shape)
        return ArrayRecord(made)


def _layers(entries: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]) -> tuple[Layer, ...]:
    made: list[Layer] = []
    for name, _, shape in entries:
        start = made[-1].stop if made else 0
        made.append(Layer(name, shape, start, start + prod(shape)))
    return tuple(made)


def require_finite(name: str, values: NDArray[Any], holes: NDArray[np.intp] | None = None) -> None:
    """Raise RejectedError if values outside the holes are not finite; the text says how many."""
    if values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values)
    if holes is not None:
        bad[holes] = False
    if bad.any():
        count = int(bad.sum())
        raise RejectedError(
            f"array {name!r} holds {count} value{'s that are' if count > 1 else ' that is'} not finite", NOT_FINITE
        )


def lower_median(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the coordinate-wise median in the arrays' own dtype: of an even number the lower of the middle two.

    NaN counts as larger than all numbers.
    """
    result = np.empty_like(rows[0])
    middle = (len(rows) - 1) // 2
    for start in range(0, result.size, CHUNK):
        block = np.stack([row[start : start + CHUNK] for row in rows])
        result[start : start + CHUNK] = np.partition(block, middle, axis=0)[middle]
    return result


def _some(names: Sequence[str]) -> str:
    return str(names[:3])[:120]


def _require_in_range(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Raise RejectedError for finite values that this dtype of floats cannot hold."""
    if values.dtype.kind == "f" and values.dtype.itemsize <= dtype.itemsize:
        return
    largest = float(np.finfo(dtype).max)
    within = not values.size or max(abs(float(values.max())), abs(float(values.min()))) <= largest
    # What is not finite is found elsewhere, and hides the extremes here.
    if not within and (np.isfinite(values) & (np.abs(values) > largest)).any():
        raise RejectedError(f"array {name!r} holds values beyond {dtype}", DTYPE)


def _whole_numbers(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as integers of this dtype, if they are whole numbers that it can hold."""
    if values.dtype == dtype:
        return values
    require_finite(name, values)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise RejectedError(f"array {name!r} holds values that are no whole numbers, where {dtype} is expected", DTYPE)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if values.size and not (low <= int(values.min()) and int(values.max()) <= high):
        raise RejectedError(f"array {name!r} holds values beyond {dtype}", DTYPE)
    return values.astype(dtype)


def _step(model: NDArray[Any] | None, update: FloatArray, rate: float, dtype: np.dtype[Any]) -> None:
    """Overwrite the update by ``model + rate * update``, within the range of the model's dtype."""
    least, largest = _range(dtype)
    for start in range(0, update.size, CHUNK):
        part = update[start : start + CHUNK]
        values = rate * part.astype(np.float64)
        if model is not None:
            values += model[start : start + CHUNK]
        np.clip(values, least, largest, out=values)
        part[:] = values


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the largest number of a dtype, as floats that it can hold."""
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        return -largest, largest
    if dtype.kind == "b":
        return 0.0, 1.0
    least, largest = np.float64(np.iinfo(dtype).min), np.float64(np.iinfo(dtype).max)
    # The largest integers of 64 bits round up.
    return float(least), float(largest if int(largest) <= np.iinfo(dtype).max else np.nextafter(largest, 0.0))
