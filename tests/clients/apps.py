"""A Flower app that trains a little, and what it is sent."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

W = np.array([[1.0, -2.0]], dtype=np.float32)


def context(node=7, **config):
    return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})


def message(kind="train", server_round=None):
    arrays = ArrayRecord({"w": Array(W), "seen": Array(np.array(3)), "b": Array(np.array(0.5))})
    config = ConfigRecord({} if server_round is None else {"server-round": server_round})
    return Message(RecordDict({"arrays": arrays, "config": config}), dst_node_id=7, message_type=kind)


def client_app(*used):
    """Make an app that adds 0.25 to w, 1 to b and 10 to the counter."""
    app = ClientApp(mods=list(used))

    @app.train()
    def train(message, context):
        return step(message)

    @app.evaluate()
    def evaluate(message, context):
        return step(message)

    return app


def step(message):
    arrays = message.content["arrays"]
    # In place, as an app may: the mod must not be misled.
    arrays["w"] = Array(arrays["w"].numpy() + np.float32(0.25))
    arrays["b"] = Array(np.asarray(arrays["b"].numpy() + 1))
    arrays["seen"] = Array(np.asarray(arrays["seen"].numpy() + 10))
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 4})})
    return Message(content, reply_to=message)
