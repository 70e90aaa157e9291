"""Replies that hostile nodes, broken libraries and bad lines send: mutations of an honest reply.

`ARRAYS`, `RECORDS` and `ENVELOPES` can never be used, `LEGAL` can, and `FLIPS` are random: what becomes of them
`decoded` tells, which reads a reply with NumPy's own reader and shares no code with the package.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from warnings import catch_warnings, simplefilter

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
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


# ---------------------------------------------------------------- a content that cannot be used


def not_finite(rng, node):
    name = pick(rng, FILLED)
    value = node.arrays[name].copy()
    value.flat[int(rng.integers(value.size))] = pick(rng, [np.nan, np.inf, -np.inf])
    return node.content(**{name: Array(value)})


def missing(rng, node):
    content = node.content()
    for name in rng.permutation(list(SHAPES))[: int(rng.integers(1, len(SHAPES) + 1))]:
        del content["arrays"][str(name)]
    return content


def renamed(rng, node):
    content = node.content()
    name = pick(rng, list(SHAPES))
    content["arrays"][pick(rng, ["", "w" * 5000, f"module.{name}", f"{name}\n", name.upper()])] = content["arrays"][
        name
    ]
    del content["arrays"][name]
    return content


def further(rng, node):
    content = node.content()
    for number in range(int(rng.integers(1, 20))):
        content["arrays"][f"backdoor{number}"] = Array(rng.standard_normal(number))
    return content


def swapped(rng, node):
    first, second = rng.choice(list(SHAPES), 2, replace=False)
    return node.content(**{first: Array(node.arrays[second]), second: Array(node.arrays[first])})


def empty_content(rng, node):
    return RecordDict()


def empty_record(rng, node):
    return RecordDict({"arrays": ArrayRecord(), "metrics": honest_metrics(0.5)})


def two_records(rng, node):
    content = node.content()
    content["more"] = pick(rng, [ArrayRecord(), content["arrays"]])
    return content


def no_arrays(rng, node):
    return RecordDict({"arrays": pick(rng, [MetricRecord({"x": 1.0}), ConfigRecord({"x": b"\x93NUMPY"})])})


RECORDS: dict[str, Callable[[Rng, Node], RecordDict]] = {
    made.__name__: made
    for made in (
        not_finite,
        missing,
        renamed,
        further,
        swapped,
        empty_content,
        empty_record,
        two_records,
        no_arrays,
    )
}


# ---------------------------------------------------------------- contents that are fine, whatever they are up to


def other_order(rng, node):
    content = node.content()
    names = [str(name) for name in rng.permutation(list(SHAPES))]
    content["arrays"] = ArrayRecord({name: content["arrays"][name] for name in names})
    return content


def other_names(rng, node):
    content = node.content()
    made = RecordDict({pick(rng, ["", "model", "\x1b[2J", "robust/skipped"]): content["arrays"]})
    made["settings"] = ConfigRecord({"lr": 1e300, "path": "/"})
    return made


def fortran(rng, node):
    return node.content(**{name: Array(np.asfortranarray(node.arrays[name])) for name in FLOATS})


def lying_fortran(rng, node):
    """The flag alone: NumPy reads the values in another order, and so must we."""
    name = pick(rng, ["conv.weight", "fc.weight"])
    value = node.arrays[name]
    return node.content(**{name: raw(value, data=with_header(value, header(value, fortran_order=True)))})


def other_version(rng, node):
    name = pick(rng, list(SHAPES))
    value = node.arrays[name]
    text = header(value) + b" " * pick(rng, [0, 64, 5000])
    versions = [
        to_npy(value, (2, 0)),
        to_npy(value, (3, 0)),
        with_header(value, text),
        with_header(value, text, b"\x02\x00"),
    ]
    return node.content(**{name: raw(value, data=pick(rng, versions))})


def python_2(rng, node):
    """A header as NumPy wrote it under Python 2, with long integers: NumPy reads it, and warns."""
    name = pick(rng, ["conv.weight", "bn.bias", "fc.weight"])
    value = node.arrays[name]
    text = header(value).replace(b"3", b"3L")
    return node.content(**{name: raw(value, data=with_header(value, text))})


def large(rng, node):
    """Values that a float32 holds, far from all others."""
    size = 10.0 ** rng.uniform(0, 37)
    far = {name: np.clip(node.arrays[name].astype(np.float64) * size, -1e37, 1e37) for name in FLOATS}
    return node.content(**{name: Array(np.asarray(value, np.float32)) for name, value in far.items()})


def constant(rng, node):
    value = pick(rng, [0.0, -0.0, 1e-45, 1e-38, 1.0, 1e37, -1e37])
    return node.content(**{name: Array(np.full(SHAPES[name], value, np.float32)) for name in FLOATS})


def counter(rng, node):
    limits = np.iinfo(np.int64)
    return node.content(
        **{"bn.num_batches_tracked": Array(np.array(pick(rng, [limits.min, limits.max, -1]), np.int64))}
    )


def poisoned(rng, node):
    return node.content(metrics=poison(rng))


def several_metrics(rng, node):
    content = node.content()
    content["more-metrics"] = poison(rng)
    return content


LEGAL: dict[str, Callable[[Rng, Node], RecordDict]] = {
    made.__name__: made
    for made in (
        other_order,
        other_names,
        fortran,
        lying_fortran,
        other_version,
        python_2,
        large,
        constant,
        counter,
        poisoned,
        several_metrics,
    )
}


def poison(rng: Rng) -> MetricRecord | ConfigRecord:
    """Metrics that break or move averages."""
    if rng.random() < 0.1:
        return ConfigRecord({"num-examples": "ten", "loss": b"\x00"})
    values = [np.nan, np.inf, -np.inf, 1e300, -1.7e308, 10**400, -1, 0, [], [1.0], [np.nan] * 2, [1e300, 1.0, 2.0]]
    keys = ["num-examples", "loss", "parts", "steps", "robust/skipped", "", "x" * 1000]
    made = MetricRecord({"num-examples": 10, "loss": 0.5, "parts": [0.5, -0.5], "steps": 7})
    for key in rng.permutation(keys)[: int(rng.integers(1, len(keys)))]:
        if rng.random() < 0.25:
            made.pop(str(key), None)
        else:
            made[str(key)] = pick(rng, [*values, 10 ** int(rng.integers(0, 19)), float(rng.standard_normal() * 1e6)])
    return made


# ---------------------------------------------------------------- messages that cannot be used, whatever they hold


def told_otherwise(message: Message, **changed) -> Message:
    """The message with other metadata."""
    names = (
        "run_id",
        "message_id",
        "src_node_id",
        "dst_node_id",
        "reply_to_message_id",
        "group_id",
        "created_at",
        "ttl",
    )
    fields = {name: getattr(message.metadata, name) for name in (*names, "message_type")}
    made = Metadata(**fields)
    made.__dict__.update({f"_{name}": value for name, value in changed.items()})
    return Message(metadata=made, content=message.content)


def error_reply(rng, node):
    return node.reply(
        Error(int(rng.integers(0, 9)), pick(rng, ["out of memory", "", None, "x" * 10**5, "a\nb\x1b[2J"]))
    )


def nothing(rng, node):
    message = node.reply(node.content())
    message.__dict__["_content"] = None
    return message


def stranger(rng, node):
    message = node.reply(node.content())
    return told_otherwise(message, src_node_id=pick(rng, [0, -1, node.id + 1, 2**64 - 1]))


def other_round(rng, node):
    return told_otherwise(node.reply(node.content()), reply_to_message_id=pick(rng, ["another", "0" * 64]))


def other_type(rng, node):
    own = node.asked.metadata.message_type
    types = [kind for kind in ("train", "evaluate", "query", "train.other", "system") if kind != own]
    return told_otherwise(node.reply(node.content()), message_type=pick(rng, types))


def no_message(rng, node):
    return pick(rng, [None, object(), 5, b"\x93NUMPY", node.content(), node.arrays])


ENVELOPES: dict[str, Callable[[Rng, Node], object]] = {
    made.__name__: made for made in (error_reply, nothing, stranger, other_round, other_type, no_message)
}


# ---------------------------------------------------------------- random bytes, for better or worse


def flip(rng: Rng, data: bytes, first: int = 0) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(first, len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flipped_array(rng, node):
    name = pick(rng, list(SHAPES))
    return node.reply(node.content(**{name: raw(node.arrays[name], data=flip(rng, to_npy(node.arrays[name])))}))


def flipped_values(rng, node):
    name = pick(rng, FILLED)
    data = to_npy(node.arrays[name])
    return node.reply(node.content(**{name: raw(node.arrays[name], data=flip(rng, data, data.index(b"\n") + 1))}))


def flipped_message(rng, node):
    """Flips anywhere in the serialised message; Flower refuses most before a strategy sees them."""
    data = message_to_proto(node.reply(node.content())).SerializeToString()
    while True:
        try:
            return message_from_proto(ProtoMessage.FromString(flip(rng, data)))
        except Exception:
            # Whatever Flower raises: such a message never arrives.
            continue


FLIPS: dict[str, Callable[[Rng, Node], Message]] = {
    made.__name__: made for made in (flipped_array, flipped_values, flipped_message)
}


def draw(rng: Rng, node: Node) -> tuple[str, object]:
    """Return the kind of a hostile reply, and the reply."""
    family = rng.random()
    if family < 0.4:
        kind, name = pick(rng, list(ARRAYS)), pick(rng, list(SHAPES))
        return f"{kind}({name})", node.reply(node.content(**{name: ARRAYS[kind](rng, node.arrays[name])}))
    if family < 0.75:
        kinds = RECORDS if family < 0.55 else LEGAL
        kind = pick(rng, list(kinds))
        return kind, node.reply(kinds[kind](rng, node))
    others = ENVELOPES if family < 0.85 else FLIPS
    kind = pick(rng, list(others))
    return kind, others[kind](rng, node)


# ---------------------------------------------------------------- what is legal


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


def _read(array: Array, like: np.ndarray) -> np.ndarray | None:
    if (array.dtype, array.shape, array.stype) != (str(like.dtype), like.shape, STYPE):
        return None
    return _read_npy(array.data, like.shape, like.dtype)


@lru_cache(maxsize=512)
def _read_npy(data: bytes, expected_shape: tuple[int, ...], expected_dtype: np.dtype) -> np.ndarray | None:
    stream = io.BytesIO(data)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}
    try:
        with catch_warnings():
            simplefilter("ignore")
            # The header comes first: NumPy would make room for all that it declares.
            shape, _, dtype = readers[npy.read_magic(stream)](stream)
            if (shape, dtype) != (expected_shape, expected_dtype):
                return None
            stream.seek(0)
            value = npy.read_array(stream, allow_pickle=False)
    except Exception:
        return None
    return value if stream.read() == b"" else None
