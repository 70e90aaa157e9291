"""Flower's older types as the messages that they were on the wire, so that one reader serves both interfaces.

`Parameters` declare neither names nor dtypes nor shapes: arrays are named by their place, and what counts is the
header of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from logging import WARNING

from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.common import EvaluateIns, EvaluateRes, FitIns, FitRes, Parameters
from flwr.server.client_proxy import ClientProxy
from flwr.supercore import log

from flwr_robust.messages.arrays import NUMPY_STYPE
from flwr_robust.messages.replies import Question, metadata_by_hand

Result = tuple[ClientProxy, FitRes] | tuple[ClientProxy, EvaluateRes]
Failure = Result | BaseException
# What the record of a model is called.
NAME = "parameters"


def node_number(client: ClientProxy) -> int:
    """Return the id of a client's node: as Flower has it, else the client's cid as a number, or a digest of it."""
    number = getattr(client, "node_id", None)
    if isinstance(number, int):
        return number
    cid = str(client.cid)
    if cid.isascii() and cid.isdecimal() and int(cid) < 2**64:
        return int(cid)
    return int.from_bytes(blake2b(cid.encode(), digest_size=8).digest(), "big")


def to_record(parameters: Parameters) -> ArrayRecord:
    """Return the arrays under the names "0", "1", ...; their bytes are not copied.

    Nothing is declared: what counts is the header of the bytes.
    """
    return ArrayRecord(
        {
            str(place): Array(dtype="", shape=(), stype=NUMPY_STYPE, data=data)
            for place, data in enumerate(parameters.tensors)
        }
    )


def to_parameters(record: ArrayRecord) -> Parameters:
    """Return a record's arrays as Parameters; their bytes are not copied."""
    return Parameters([array.data for array in record.values()], NUMPY_STYPE)


def questions(
    kind: str, instructions: Iterable[tuple[ClientProxy, FitIns | EvaluateIns]], *, with_records: bool = False
) -> list[Question]:
    """Return what each client is asked; with the model that goes to it, where that is of interest."""
    records: dict[int, ArrayRecord] = {}
    made = []
    for client, instruction in instructions:
        key = id(instruction.parameters)
        if with_records and key not in records:
            records[key] = to_record(instruction.parameters)
        sent = {NAME: records[key]} if with_records else None
        made.append(Question(metadata_by_hand(kind, destination=node_number(client)), sent))
    return made


def replies_of(
    kind: str, results: Sequence[Result], failures: Sequence[Failure], asked: Sequence[int] | None
) -> list[Message]:
    """Return results and failures as the replies that they were.

    Parameters
    ----------
    kind : str
        ``"train"`` or ``"evaluate"``.
    results : sequence of (client, result)
        Of the clients that replied.
    failures : sequence of (client, result) or exception
        Exceptions do not say whose they are: if there are as many as nodes without a reply, they are theirs.
    asked : sequence of int, or None
        Nodes that were asked, if that is known.
    """
    made = [_reply(kind, client, result) for client, result in results]
    made += [
        _error(kind, node_number(client), f"{result.status.code.name}: {result.status.message}")
        for client, result in (failure for failure in failures if isinstance(failure, tuple))
    ]
    anonymous = [failure for failure in failures if isinstance(failure, BaseException)]
    replied = {message.metadata.src_node_id for message in made}
    silent = [node for node in asked or () if node not in replied]
    reason = "; or ".join(sorted({f"{type(error).__name__}: {error}" for error in anonymous}))
    if len(anonymous) == len(silent):
        return made + [_error(kind, node, reason) for node in silent]
    if anonymous:
        log(WARNING, "%s failures of unknown nodes: %s", len(anonymous), reason)
    return made


def _reply(kind: str, client: ClientProxy, result: FitRes | EvaluateRes) -> Message:
    node, content = node_number(client), RecordDict()
    if isinstance(result, FitRes):
        try:
            content[NAME] = to_record(result.parameters)
        except Exception as error:
            return _error(kind, node, f"unreadable parameters: {type(error).__name__}: {error}")
    return Message(metadata=metadata_by_hand(kind, source=node), content=content)  # type: ignore[call-overload,no-any-return]


def _error(kind: str, node: int, reason: str) -> Message:
    metadata = metadata_by_hand(kind, source=node)
    return Message(metadata=metadata, error=Error(0, reason))  # type: ignore[call-overload,no-any-return]
