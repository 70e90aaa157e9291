"""The app of the server."""

import numpy as np
from flwr.common import Context, Metrics, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg

from numpyexample.task import initial_weights


def weighted_average(metrics: list[tuple[int, Metrics]]) -> Metrics:
    """Return the accuracy over all clients' test data."""
    total = sum(num_examples for num_examples, _ in metrics)
    return {"accuracy": sum(num_examples * m["accuracy"] for num_examples, m in metrics) / total}


def server_fn(context: Context) -> ServerAppComponents:
    """Return the strategy, and how long to train."""

    def save(server_round, weights, config):
        np.savez(str(context.run_config["model-path"]), *weights)

    strategy = FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=1.0,
        evaluate_fn=save,
        evaluate_metrics_aggregation_fn=weighted_average,
        initial_parameters=ndarrays_to_parameters(initial_weights()),
    )
    config = ServerConfig(num_rounds=int(context.run_config["num-server-rounds"]))
    return ServerAppComponents(strategy=strategy, config=config)


app = ServerApp(server_fn=server_fn)
