"""Two rounds of the median; the fates of the nodes go into a file."""

import json
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from flwr_robust import Median

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, with replies of up to a megabyte."""
    nodes = int(context.run_config["num-nodes"])
    wait = {"fraction_evaluate": 0.0, "min_train_nodes": nodes, "min_available_nodes": nodes}
    strategy = Median(max_reply_bytes=2**20, **wait)
    start = ArrayRecord({"point": Array(np.zeros(4, np.float32))})
    result = strategy.start(grid=grid, initial_arrays=start, num_rounds=2)
    found = {
        "point": result.arrays["point"].numpy().tolist(),
        "reports": [report.to_dict() for report in strategy.reports],
    }
    Path(str(context.run_config["out"])).write_text(json.dumps(found))
