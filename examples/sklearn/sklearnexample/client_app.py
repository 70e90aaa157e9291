"""The app of each client."""

import warnings

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from sklearnexample.task import create_model, get_weights, load_data, set_weights

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the model on the client's own data."""
    X, _, y, _ = _data(context)
    model = create_model(int(context.run_config["local-epochs"]))
    set_weights(model, message.content["arrays"].to_numpy_ndarrays())
    with warnings.catch_warnings():
        # A few steps a round are not meant to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    loss = log_loss(y, model.predict_proba(X), labels=model.classes_)
    metrics = MetricRecord({"train-loss": float(loss), "num-examples": len(X)})
    content = RecordDict({"arrays": ArrayRecord(get_weights(model)), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the model on the client's own data."""
    _, X, _, y = _data(context)
    model = create_model()
    set_weights(model, message.content["arrays"].to_numpy_ndarrays())
    loss = log_loss(y, model.predict_proba(X), labels=model.classes_)
    metrics = MetricRecord({"loss": float(loss), "accuracy": float(model.score(X, y)), "num-examples": len(X)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _data(context: Context):
    return load_data(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))
