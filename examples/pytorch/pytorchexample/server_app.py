"""The app of the server."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from pytorchexample.task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train a model over some rounds, and save it."""
    config = context.run_config
    arrays = ArrayRecord(Net().state_dict())
    strategy = FedAvg(fraction_evaluate=float(config["fraction-evaluate"]))
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"learning-rate": float(config["learning-rate"])}),
        num_rounds=int(config["num-server-rounds"]),
    )
    torch.save(result.arrays.to_torch_state_dict(), str(config["model-path"]))
