"""Replies: some can never be used, some are odd but legal, and some are flipped at random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from tests.strategies.hostile.arrays import ARRAYS
from tests.strategies.hostile.node import (
    FILLED,
    FLOATS,
    SHAPES,
    Node,
    Rng,
    header,
    honest_metrics,
    pick,
    raw,
    to_npy,
    with_header,
)

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
