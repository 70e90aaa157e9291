"""Arrays that can never be used, instead of an honest one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Array

from tests.strategies.hostile.node import Bomb, Rng, header, pick, raw, to_npy, with_header

# ---------------------------------------------------------------- one array that cannot be used


def truncated(rng, value):
    data = to_npy(value)
    return raw(value, data=data[: int(rng.integers(len(data)))])


def padded(rng, value):
    return raw(value, data=to_npy(value) + rng.bytes(int(rng.integers(1, 500))))


def ten_times(rng, value):
    return raw(value, data=to_npy(value) * 10 + b"0")


def garbage(rng, value):
    return raw(value, data=rng.bytes(int(rng.integers(0, 400))))


def garbage_header(rng, value):
    return raw(value, data=with_header(value, rng.bytes(int(rng.integers(1, 200)))))


def other_shape(rng, value):
    """Another shape, in the bytes and, or, in the declaration; sizes may agree."""
    shapes = [(value.size,), (1, *value.shape), (value.size, 1, 1), (0,), (2, 3), (7, 0, 2), (value.size + 1,), ()]
    shape = pick(rng, [shape for shape in shapes if shape != value.shape])
    other = np.resize(value, shape).astype(value.dtype)
    lies = [{"data": to_npy(other)}, {"shape": shape}, {"shape": shape, "data": to_npy(other)}]
    return raw(value, **pick(rng, lies))


def other_dtype(rng, value):
    """Really another dtype, as a careless node would send it; float64 also beyond float32."""
    kinds = ["f2", "f4", "f8", "g", "c8", "c16", "?", "i4", "u4", "i8", "u8", "i1", ">f4", ">i8", "S4", "U1", "V4"]
    kind = pick(rng, [kind for kind in [*kinds, "M8[s]", "f4,f4"] if np.dtype(kind) != value.dtype])
    other = np.zeros(value.shape, kind) if kind[0] in "SUVM" or "," in kind else value.astype(kind)
    if kind == "f8" and other.size:
        other = other + pick(rng, [0.0, 1e39, -1e308])
    return raw(np.asarray(other))


def declared_dtype(rng, value):
    """A lie in the declaration alone."""
    names = ["float16", "float64", "complex64", "bool", "object", "int32", ">f4", "", "V4", "f4,f4", "nonsense", "O"]
    return raw(value, dtype=pick(rng, [*names, "float32 ", "(" * 5000, "9" * 5000, "\x00", "(1000000,1000000)f4"]))


def header_dtype(rng, value):
    """A lie in the header alone, of equal or other item size."""
    kinds = ["<f2", "<f8", "<i4", "<u4", ">f4", ">i8", "|b1", "|O", "<c8", "|V4", "<U1", "|S4", "<M8[s]", "V", "", "O"]
    odd = ["f4,f4", [("a", "<f4")], ("<f4", (10**6, 10**6)), [("a", "|O")], None, 4, {"names": ["a"]}, ["x"] * 500]
    kind = pick(rng, [*[kind for kind in kinds if kind != value.dtype.str], *odd])
    return raw(value, data=with_header(value, header(value, descr=kind)))


def huge(rng, value):
    """10^12 elements and more: in the declaration, in the header, or in both."""
    shapes = [(10**12,), (10**6, 10**6), (2**40, 0, 3), (2**63,), (2**62, 2**62), (10**30, 1), (1,) * 3000]
    shape = pick(rng, [*shapes, (-1,), (-1, *value.shape), (-value.size - 1,)])
    data = with_header(value, header(value, shape=shape))
    return raw(value, **pick(rng, [{"shape": shape}, {"data": data}, {"shape": shape, "data": data}]))


def header_fields(rng, value):
    """Headers with missing, unknown, or wrongly typed fields."""
    shape, descr = value.shape, value.dtype.str
    texts = [
        {"descr": descr, "shape": shape},
        {"descr": descr, "fortran_order": False, "shape": shape, "more": 1},
        {"descr": descr, "fortran_order": 0, "shape": shape},
        {"descr": descr, "fortran_order": "no", "shape": shape},
        {"descr": descr, "fortran_order": False, "shape": [*shape, 1]},
        {"descr": descr, "fortran_order": False, "shape": (*shape, 1.0)},
        {"descr": descr, "fortran_order": False, "shape": value.size},
        {"descr": descr, "fortran_order": False, "shape": None},
        [descr, False, shape],
        {descr},
        descr,
    ]
    return raw(value, data=with_header(value, repr(pick(rng, texts)).encode("latin1")))


def header_code(rng, value):
    """Headers that are code, or that strain a parser."""
    descr = value.dtype.str.encode()
    odd = [b"exit()", b"-" * 9000 + b"1", b"(" * 9000, b"[" * 90 + b"]" * 90, b"0x" + b"f" * 8000, b"1" * 9000]
    odd += [b"1+" * 4000 + b"1", b"'" * 3, b"{**{}}", b"{" * 50, b"\\", b"\x00", b"\xff\xfe", b"0777", b"1__0", b"1L"]
    whole = b"{'descr': '%s', 'fortran_order': False, 'shape': (%s, 99), }" % (descr, pick(rng, odd))
    return raw(
        value, data=with_header(value, pick(rng, [whole, pick(rng, odd)]), pick(rng, [b"\x01\x00", b"\x02\x00"]))
    )


def header_length(rng, value):
    """A length of the header that is too small, too large, or larger than memory."""
    data = to_npy(value, version=(2, 0))
    right = int.from_bytes(data[8:12], "little")
    wrong = pick(rng, [0, 1, right - 1, right + 1, right + 5, 9_000, 11_000, 2**31 - 1, 2**32 - 1])
    return raw(value, data=data[:8] + wrong.to_bytes(4, "little") + data[12:])


def header_version(rng, value):
    data = to_npy(value)
    version = pick(rng, [b"\x00\x00", b"\x01\x01", b"\x02\x00", b"\x03\x00", b"\x04\x00", b"\x09\x00", b"\xff\xff"])
    return raw(value, data=data[:6] + version + data[8:])


def pickled(rng, value):
    bombs = np.empty(max(value.size, 1), object)
    bombs[:] = [Bomb() for _ in bombs]
    shape = pick(rng, [value.shape if value.size else (1,), (bombs.size,)])
    data = to_npy(bombs.reshape(shape), pickle=True)
    return raw(value, data=data, dtype=pick(rng, [str(value.dtype), "object"]))


def serialised_otherwise(rng, value):
    return raw(value, stype=pick(rng, ["", "pickle", "torch", "numpy.ndarray ", "n" * 5000]))


ARRAYS: dict[str, Callable[[Rng, np.ndarray], Array]] = {
    made.__name__: made
    for made in (
        truncated,
        padded,
        ten_times,
        garbage,
        garbage_header,
        other_shape,
        other_dtype,
        declared_dtype,
        header_dtype,
        huge,
        header_fields,
        header_code,
        header_length,
        header_version,
        pickled,
        serialised_otherwise,
    )
}
