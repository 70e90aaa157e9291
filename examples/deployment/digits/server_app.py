"""What runs at the SuperLink: training with up to f liars, and a record of what became of each node."""

from logging import INFO
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from digits import task
from digits.checkpoint import Checkpoint
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
        suspicion=0.9,  # how often each node was left out lately
    )
    strategy = ARC(NNM(last_stage))  # clip, then mix, then aggregate
    model, done = task.initial_model(), 0
    if config["resume"]:
        if out is None:
            raise ValueError("resume = true, but out-dir is empty: give the out-dir of the run that was interrupted.")
        saved = Checkpoint.load(out / "checkpoint.npz")
        strategy.load_state(saved.state)
        model, done = saved.model, saved.rounds

    def measure_and_save(server_round: int, model: ArrayRecord) -> MetricRecord:
        # Flower calls it with the initial model, as round 0, and after each round.
        if out:
            Checkpoint(done + server_round, model, strategy.state()).save(out / "checkpoint.npz")
        return evaluate(server_round, model)

    result = strategy.start(
        grid=grid,
        initial_arrays=model,
        num_rounds=int(config["num-rounds"]) - done,
        timeout=float(config["round-timeout"]),
        evaluate_fn=measure_and_save,
    )
    log(INFO, "Accuracy: %.3f", task.accuracy(result.arrays, task.load()[1]))
    if out:
        np.savez(out / "model.npz", **{name: array.numpy() for name, array in result.arrays.items()})


def evaluate(server_round: int, model: ArrayRecord) -> MetricRecord:
    """Measure the global model on the server's own test data, which no node can touch."""
    _, test = task.load()
    return MetricRecord({"accuracy": task.accuracy(model, test)})
