"""Reports of rounds with random fates."""

from __future__ import annotations

import random

from flwr_robust.record.fates import Fate, Node
from flwr_robust.record.report import NodeReport, RoundReport

BIG = 2**63 + 11  # Flower's node ids take 64 bits

FATES = {
    Fate.QUARANTINED: NodeReport("quarantined", "NaN"),
    Fate.ZERO_WEIGHT: NodeReport("accepted", weight=0.0, clip_factor=0.5),
    Fate.PARTLY_USED: NodeReport("accepted", used=0.75, clip_factor=0.5),
    Fate.CLIPPED: NodeReport("accepted", weight=0.25, clip_factor=0.5),
    Fate.USED: NodeReport("accepted", weight=0.25, clip_factor=1.0),
}


def some_run(seed, nodes=9, malicious=3, rounds=12):
    """A random run: the reports, and what is known of the nodes."""
    rng = random.Random(seed)
    ids = [rng.getrandbits(64) for _ in range(nodes)]
    known = {node: Node(node, place, place >= nodes - malicious) for place, node in enumerate(ids)}
    reports = []
    for current in range(1, rounds + 1):
        report = RoundReport(current, "MultiKrum(f=3)", nodes, malicious)
        report.skipped = "too few" if rng.random() < 0.2 else None
        for node in ids:
            draw = rng.choice([*FATES, None, "excluded"])
            if draw == "excluded":
                report.excluded.append(node)
            elif draw is not None:
                report.nodes[node] = FATES[draw]
        reports.append(report)
    return reports, known
