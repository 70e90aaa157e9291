"""The Flower ServerApp of a simulation, where pyproject.toml looks for it."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from simulations.config.run_config import RunConfig
from simulations.run.runner import needed_nodes, run_all

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do the run that the run configuration asks for."""
    config = RunConfig.from_run_config(context.run_config)
    run_all(grid, [config], needed_nodes(config))
