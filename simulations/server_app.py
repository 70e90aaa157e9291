"""The Flower ServerApp of a simulation."""

from __future__ import annotations

from collections.abc import Iterable
from logging import ERROR, INFO

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from simulations.config import RunConfig
from simulations.recorded import NodeError
from simulations.runner import learn_partitions, needed_nodes, run, wait_for_nodes

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do the run that the run configuration asks for."""
    config = RunConfig.from_run_config(context.run_config)
    run_all(grid, [config], needed_nodes(config))


def run_all(grid: Grid, configs: Iterable[RunConfig], needed: int) -> None:
    """Do one run after another with the same nodes.

    A run that fails does not stop the others, unless a node failed, which may not come back. The first
    failure is raised at the end.

    Parameters
    ----------
    grid : Grid
        The nodes.
    configs : iterable of RunConfig
        The runs.
    needed : int
        The number of nodes to wait for.
    """
    partition_of = learn_partitions(grid, wait_for_nodes(grid, needed))
    failures: list[Exception] = []
    for config in configs:
        try:
            path = run(grid, config, partition_of)
            log(INFO, "Results: %s", path.resolve())
        except NodeError:
            raise
        except Exception as error:
            log(ERROR, "The run %s failed.", config.run_name(), exc_info=True)
            failures.append(error)
    if failures:
        raise failures[0]
