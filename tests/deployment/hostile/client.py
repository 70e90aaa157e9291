"""Nodes that take one step."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take a step."""
    point = message.content.array_records["arrays"]["point"].numpy()
    content = RecordDict(
        {"arrays": ArrayRecord({"point": Array(point + 1)}), "metrics": MetricRecord({"num-examples": 10})}
    )
    return Message(content, reply_to=message)
