"""What runs at the SuperLink: training with up to f liars, and a record of what became of each node."""

from logging import INFO
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from digits import task
from flwr_robust import ARC, NNM, MultiKrum, TrimmedMean

LAST_STAGES = {"trimmed-mean": TrimmedMean, "multi-krum": MultiKrum}

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and keep the model."""
    config = context.run_config
    out = Path(str(config["out-dir"])) if config["out-dir"] else None
    last_stage = LAST_STAGES[str(config["last-stage"])](
        num_malicious_nodes=int(config["num-malicious-nodes"]),
        min_train_nodes=int(config["min-nodes"]),
        min_available_nodes=int(config["min-nodes"]),
        fraction_evaluate=0.0,  # the server has test data of its own
        report_path=out / "report.jsonl" if out else None,
    )
    strategy = ARC(NNM(last_stage))  # clip, then mix, then aggregate
    result = strategy.start(
        grid=grid,
        initial_arrays=task.initial_model(),
        num_rounds=int(config["num-rounds"]),
        timeout=float(config["round-timeout"]),
        evaluate_fn=evaluate,
    )
    log(INFO, "Accuracy: %.3f", task.accuracy(result.arrays, task.load()[1]))
    if out:
        np.savez(out / "model.npz", **{name: array.numpy() for name, array in result.arrays.items()})


def evaluate(server_round: int, model: ArrayRecord) -> MetricRecord:
    """Measure the global model on the server's own test data, which no node can touch."""
    _, test = task.load()
    return MetricRecord({"accuracy": task.accuracy(model, test)})
