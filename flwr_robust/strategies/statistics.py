"""Running statistics, which are no updates."""

from __future__ import annotations

from flwr_robust.engine.device import FloatArray
from flwr_robust.messages.replies import Inbox
from flwr_robust.rules.base import Rule
from flwr_robust.rules.mean import Mean
from flwr_robust.rules.median import Median
from flwr_robust.rules.run import run
from flwr_robust.rules.trimmed_mean import TrimmedMean


def statistics_of(inbox: Inbox, f: int, threads: int | None, *, mean: bool = False) -> FloatArray:
    """Aggregate running statistics by the trimmed mean: never outside what honest nodes sent.

    That is the median where f is 0 or too large. Behind the mean there is no defence, and the mean has no bias.
    """
    rows = inbox.statistics()
    rule: Rule = Mean() if mean else TrimmedMean(f) if 0 < 2 * f < rows.n else Median()
    return run(rule, rows, threads).vector
