"""What a SuperNode does. Nothing here knows of flwr-robust, unless the node is told to lie for a drill."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from digits import task


def drill(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Lie on a SuperNode whose --node-config names an attack; real attackers run what they like."""
    attack = context.node_config.get("attack")
    if attack is None:
        return call_next(message, context)
    from clients import mods

    attacks = {"sign-flip": mods.SignFlip(), "noise": mods.Noise(std=0.5)}
    return attacks[str(attack)](message, context, call_next)


app = ClientApp(mods=[drill])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the node's own samples."""
    samples = task.load_partition(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))
    steps, rate = int(context.run_config["local-steps"]), float(context.run_config["learning-rate"])
    model = task.train(message.content.array_records["arrays"], samples, steps, rate)
    metrics = MetricRecord({"num-examples": len(samples[1])})
    return Message(RecordDict({"arrays": model, "metrics": metrics}), reply_to=message)
