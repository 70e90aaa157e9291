"""The app of the server."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from sklearnexample.task import create_model, get_weights

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train a model over some rounds, and save it."""
    arrays = ArrayRecord(get_weights(create_model()))
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=1.0)
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["num-server-rounds"]))
    np.savez(str(context.run_config["model-path"]), *result.arrays.to_numpy_ndarrays())
