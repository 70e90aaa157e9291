"""What a strategy's configuration leaves open to liars, in sentences for its `summary`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flwr_robust.rules.base import PreAggregation, Rule, Stage, resolve_f
from flwr_robust.rules.run import TooFewRowsError, require_rows


def cautions(
    stages: Sequence[PreAggregation], rule: Rule | None, num_malicious_nodes: int | float, min_nodes: int
) -> list[str]:
    """Return what a user should know before the first round.

    Parameters
    ----------
    stages : sequence of PreAggregation
        In front of the rule.
    rule : Rule or None
        The whole chain; None where a strategy of another library takes its place.
    num_malicious_nodes : int or float
        Malicious nodes to tolerate.
    min_nodes : int
        The least number of nodes that Flower asks to train.
    """
    every: Sequence[Stage] = stages if rule is None else (*stages, rule.last)
    needed, found = 1, []
    while not _accepts(every, needed):
        needed += 1
    if rule is not None and rule.is_masked:
        found.append(
            f"{type(rule.last).__name__} does not see large updates beside a far larger one: put ARC or StaticClipping "
            "in front of it"
        )
    if min_nodes < needed:
        found.append(
            f"Flower may hand on {min_nodes} replies, but the chain needs {needed}: set min_train_nodes "
            f"(min_fit_clients) to {needed} or more"
        )
        min_nodes = needed
    if rule is not None:
        found += _of_too_few(stages, rule.last, num_malicious_nodes, min_nodes)
    return found


def _accepts(stages: Sequence[Stage], n: int) -> bool:
    try:
        require_rows(stages, n)
    except TooFewRowsError:
        return False
    return True


def _of_too_few(
    stages: Sequence[PreAggregation], last: Rule, num_malicious_nodes: int | float, n: int
) -> Iterator[str]:
    """Rules that need no f run on any number of rows; of two, one liar is half, unless the server itself is a judge."""
    if last.uses_f or not last.tolerates or "root" in last.requires:
        return
    f = max(1, resolve_f(num_malicious_nodes, n))
    rows = n
    for stage in stages:
        rows = stage.rows_after(rows, stage.resolve_f(n))
    if rows <= 2 * f:
        reach = f"{n} replies" if rows == n else f"{n} replies, which come to {rows} rows,"
        liars = "1 malicious node" if f == 1 else f"{f} malicious nodes"
        yield (
            f"At {reach} {type(last).__name__} protects from nothing: no rule tolerates {liars} there; "
            f"set min_train_nodes (min_fit_clients) so that more than {2 * f} rows reach it"
        )
