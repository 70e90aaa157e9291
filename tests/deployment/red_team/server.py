"""The same training, undefended and defended, with and without an adversary; what came out goes into a file."""

import json
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from clients import Adversary, attacks
from flwr_robust import ARC, NNM, Mean, TrimmedMean

app = ServerApp()

# Name, attack, defended?, rounds: few, because a SuperNode starts a process for each message.
CASES = (
    ("undefended", attacks.FallOfEmpires("optimal"), False, 2),
    ("defended", attacks.FallOfEmpires("optimal"), True, 2),
    ("silent", attacks.Silent(), False, 1),
)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all cases."""
    nodes = int(context.run_config["num-nodes"])
    wait = {"fraction_evaluate": 0.0, "min_train_nodes": nodes, "min_available_nodes": nodes}
    found = {}
    for name, attack, defended, rounds in CASES:
        strategy = ARC(NNM(TrimmedMean(num_malicious_nodes=1, **wait))) if defended else Mean(**wait)
        attacked = Adversary(grid, attack, malicious=1, strategy=strategy, seed=1)
        start = ArrayRecord({"point": Array(np.zeros(4, np.float32)), "seen": Array(np.array(3))})
        result = strategy.start(grid=attacked, initial_arrays=start, num_rounds=rounds)
        found[name] = {
            "point": result.arrays["point"].numpy().tolist(),
            "seen": int(result.arrays["seen"].numpy()),
            "replies": [report.n for report in strategy.reports],
            "malicious": len(attacked.malicious_ids),
        }
    Path(str(context.run_config["out"])).write_text(json.dumps(found))
