"""Nodes that walk half of the way to the point (1, 1, 1, 1), each with an error of its own."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take a step."""
    arrays = message.content.array_records["arrays"]
    point = arrays["point"].numpy()
    error = np.random.default_rng(int(context.node_config["partition-id"])).normal(0, 0.05, point.shape)
    new = ArrayRecord({"point": Array((point + 0.5 * (1 - point) + error).astype(np.float32)), "seen": arrays["seen"]})
    content = RecordDict({"arrays": new, "metrics": MetricRecord({"num-examples": 10})})
    return Message(content, reply_to=message)
