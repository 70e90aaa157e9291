"""The app of each client."""

from flwr.client import Client, ClientApp, NumPyClient
from flwr.common import Context

from numpyexample.task import load_data, test, train


class FlowerClient(NumPyClient):
    """A client with a partition of the digits."""

    def __init__(self, data, local_epochs: int) -> None:
        self.X_train, self.X_test, self.y_train, self.y_test = data
        self.local_epochs = local_epochs

    def fit(self, parameters, config):
        """Train the model on the client's own data."""
        weights = train(parameters, self.X_train, self.y_train, self.local_epochs)
        return weights, len(self.X_train), {}

    def evaluate(self, parameters, config):
        """Test the model on the client's own data."""
        loss, accuracy = test(parameters, self.X_test, self.y_test)
        return loss, len(self.X_test), {"accuracy": accuracy}


def client_fn(context: Context) -> Client:
    """Return the client of one partition."""
    data = load_data(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))
    return FlowerClient(data, int(context.run_config["local-epochs"])).to_client()


app = ClientApp(client_fn=client_fn)
