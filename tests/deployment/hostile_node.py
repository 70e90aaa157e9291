"""A SuperNode that speaks the protocol itself, and answers each message with what no honest one would send.

Run as ``python -m tests.deployment.hostile_node ADDRESS KIND FILE``; it writes its node id to the file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_head_values_from_object_content,
    get_object_tree,
)
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_connection import http_request_response

Parts = dict[str, bytes]


def _made(kind: str, children: list[str], body: bytes) -> bytes:
    return f"{kind} {','.join(children)} {len(body)}".encode() + b"\x00" + body


def _spoilt(parts: Parts, root: str, kind: str, spoil: Callable[[bytes], bytes]) -> tuple[Parts, str]:
    """Spoil the part of a kind, and put what refers to it right: a SuperLink checks that ids are those of contents."""
    names: dict[str, str] = {}

    def put_right(name: str) -> str:
        if name not in names:
            of, children, _ = get_object_head_values_from_object_content(parts[name])
            content = parts[name]
            for child in children:
                content = content.replace(child.encode(), put_right(child).encode())
            if of == kind:
                content = spoil(content)
            names[name] = sha256(content).hexdigest()
            made[names[name]] = content
        return names[name]

    made: Parts = {}
    return made, put_right(root)


def _garbage(content: bytes) -> bytes:
    kind, children, _ = get_object_head_values_from_object_content(content)
    return _made(kind, children, b"\xff\x00garbage")


def _bomb(content: bytes) -> bytes:
    """Name the chunk so often that it comes to gigabytes."""
    kind, children, _ = get_object_head_values_from_object_content(content)
    described = json.loads(content[content.index(b"\x00") + 1 :])
    return _made(kind, children, json.dumps({**described, "arraychunk_ids": [0] * 100_000}).encode())


def _lie(content: bytes) -> bytes:
    _, children, _ = get_object_head_values_from_object_content(content)
    return _made("MetricRecord", children, content[content.index(b"\x00") + 1 :])


SPOIL: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "garbage": ("RecordDict", _garbage),
    "bomb": ("Array", _bomb),
    "lie": ("ArrayRecord", _lie),
    "honest": ("nothing", _garbage),
    "forged": ("nothing", _garbage),
    "large": ("nothing", _garbage),
    "error": ("nothing", _garbage),
}


def _reply(kind: str, message: Message) -> Message:
    if kind == "error":
        return Message(Error(1, "x\nINFO : all is well"), reply_to=message)
    size = 10**6 if kind == "large" else 4
    content = RecordDict(
        {"arrays": ArrayRecord({"point": Array(np.ones(size, np.float32))}), "m": MetricRecord({"num-examples": 1})}
    )
    reply = Message(content, reply_to=message)
    if kind == "forged":
        # In what it says of itself; to the SuperLink it has to tell the truth.
        reply.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id + 1
    return reply


def _tree(parts: Parts, name: str) -> ObjectTree:
    _, children, _ = get_object_head_values_from_object_content(parts[name])
    return ObjectTree(object_id=name, children=[_tree(parts, child) for child in children])


def _answer(kind: str, node: int, message: Message, send: Any, push: Any) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, message.metadata.run_id, node
    reply = _reply(kind, message)
    parts = {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}
    parts, root = _spoilt(parts, get_object_tree(reply).object_id, *SPOIL[kind])
    reply.metadata.__dict__["_src_node_id"] = node
    reply.metadata.__dict__["_message_id"] = root
    wanted, session = send(reply, _tree(parts, root), 0.0)
    for name in wanted:
        push(message.metadata.run_id, session, name, parts[name])


def main(address: str, kind: str, file: str) -> None:
    """Answer until the process is ended."""
    with http_request_response(address, insecure=True) as (node, receive, send, _, _, _, push, confirm):
        Path(file).write_text(str(node))
        while True:
            received = receive()
            if received is None:
                time.sleep(0.2)
                continue
            message, tree = received
            confirm(message.metadata.run_id, tree.object_id)
            _answer(kind, node, message, send, push)


if __name__ == "__main__":
    main(*sys.argv[1:])
