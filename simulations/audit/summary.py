"""What came out of an audit: worst cases, costs, a table, and one sentence of advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.table import Table

from flwr_robust import rules
from simulations.audit.plan import NONE, Plan, split
from simulations.audit.project import AuditError
from simulations.wording import unknown

Line = dict[str, Any]
# Words in the names of metrics of which less is better.
LESS = ("loss", "error", "perplexity", "mse", "mae", "rmse")
FAILED = "failed"


def require_metric(metrics: Mapping[str, Any], metric: str | None, node_error: str | None = None) -> None:
    """Refuse a metric that the app does not report.

    Raises
    ------
    AuditError
        The text names those that it does.
    """
    if not metrics and node_error is not None:
        raise AuditError(f"the nodes reply with errors: {node_error}")
    if not metrics:
        raise AuditError(
            "the app reports no metric, neither from its nodes' evaluations nor from its server's; let its ClientApp "
            "evaluate, or its strategy (fraction_evaluate, evaluate_fn)."
        )
    if metric is not None and metric not in metrics:
        raise AuditError(unknown(f"--metric {metric!r}", metric, metrics))


@dataclass(frozen=True)
class Summary:
    """Lines of results, judged by one metric."""

    plan: Plan
    """What was to be run."""
    lines: Sequence[Line]
    """What came out."""
    lower: bool | None = None
    """Whether less of the metric is better; None: by its name."""

    @cached_property
    def metric(self) -> str | None:
        """The metric that counts: the one asked for, else an accuracy, else the first there is."""
        if self.plan.options.metric is not None:
            return self.plan.options.metric
        names = list(dict.fromkeys(name for line in self.lines for name in line["metrics"]))
        likely = ["accuracy", "central-accuracy", *(name for name in names if "acc" in name.lower()), *names]
        return next((name for name in likely if name in names), None)

    @cached_property
    def lower_is_better(self) -> bool:
        """Whether less of the metric is better."""
        if self.lower is not None:
            return self.lower
        return any(word in (self.metric or "").lower() for word in LESS)

    @cached_property
    def by_pair(self) -> dict[tuple[str, str], Line]:
        """The lines by attack and defence."""
        return {(line["attack"], line["defense"]): line for line in self.lines}

    def value(self, attack: str, defense: str) -> float | None:
        """Return the metric's last value; None where the run failed or gave no number."""
        line = self.by_pair.get((attack, defense))
        if line is None or line["error"] is not None:
            return None
        value: float | None = line["metrics"].get(self.metric)
        return value

    def worst(self, defense: str) -> float | None:
        """Return the worst value under attack; None where a run failed."""
        values = [self.value(attack, defense) for attack in self.plan.attacks]
        if None in values:
            return None
        known = [value for value in values if value is not None]
        return max(known) if self.lower_is_better else min(known)

    def cost(self, defense: str) -> float | None:
        """Return how much worse the unattacked run is than without a defence; None where that is not known."""
        own, undefended = self.value(NONE, defense), self.value(NONE, NONE)
        if own is None or undefended is None:
            return None
        return own - undefended if self.lower_is_better else undefended - own

    @cached_property
    def best(self) -> str | None:
        """The defence with the best worst case; the first of several."""
        known = [(defense, worst) for defense in self.plan.defenses if (worst := self.worst(defense)) is not None]
        sign = 1 if self.lower_is_better else -1
        return min(known, key=lambda pair: sign * pair[1])[0] if known else None

    def seconds(self, defense: str) -> float | None:
        """Return the mean seconds of aggregation in a round."""
        found = [line["aggregation_s"] for line in self.lines if line["defense"] == defense]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None

    def caught(self, defense: str) -> tuple[float, float] | None:
        """Return which shares of malicious and of honest updates were left out; None where a rule does not say."""
        lines = [line for line in self.lines if line["defense"] == defense and line["attack"] != NONE]
        pairs = [(line.get("caught"), line.get("honest_left_out")) for line in lines]
        if not pairs or all(liars is None and honest is None for liars, honest in pairs):
            return None
        liars, honest = ([value or 0.0 for value in column] for column in zip(*pairs, strict=True))
        return sum(liars) / len(liars), sum(honest) / len(honest)

    def notes(self) -> Iterator[str]:
        """Yield what the table does not say: runs that failed, rounds that were skipped."""
        for line in self.lines:
            name = f"{line['attack']} on {line['defense']}"
            if line["error"] is not None:
                yield f"{name} failed: {line['error']}"
            elif line.get("skipped"):
                yield f"{name}: {line['skipped']} rounds were skipped, the first because {line['skipped_because']}"


def shown(value: float | None, *, share: bool = False) -> str:
    """Write a value."""
    if value is None:
        return "-"
    return f"{value:.1%}" if share else f"{value:.4g}"


def rows(summary: Summary) -> Iterator[list[str]]:
    """Yield the headings, then a row for each defence."""
    plan = summary.plan
    yield ["Defence", "no attack", *plan.attacks, "worst case", "cost", "s a round", "caught (honest)"]
    for defense in plan.defenses:
        cells = [_cell(summary, attack, defense) for attack in (NONE, *plan.attacks)]
        worst = summary.worst(defense)
        caught = summary.caught(defense)
        told = "-" if caught is None else f"{caught[0]:.0%} ({caught[1]:.0%})"
        seconds = summary.seconds(defense)
        yield [
            defense,
            *cells,
            FAILED if worst is None else shown(worst),
            shown(summary.cost(defense)),
            "-" if seconds is None else f"{seconds:.3f}",
            told,
        ]


def _cell(summary: Summary, attack: str, defense: str) -> str:
    value = summary.value(attack, defense)
    return FAILED if value is None and (attack, defense) in summary.by_pair else shown(value)


def table(summary: Summary) -> Table:
    """Return the table for a terminal."""
    better = "less" if summary.lower_is_better else "more"
    title = f"{summary.metric} after the last round ({better} is better)"
    headings, *lines = rows(summary)
    made = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        made.add_column(heading, justify="right" if number else "left", overflow="fold")
    for line in lines:
        made.add_row(*line, style="bold" if line[0] == summary.best else None)
    return made


def paste(summary: Summary, defense: str) -> list[str]:
    """Return the lines that defend the app."""
    f = summary.plan.options.malicious
    (component,) = split(defense)
    strategy = next((line["strategy"] for line in summary.lines if line["strategy"]), "FedAvg")
    arguments = f", args={rules.parse_args(component.arguments)!r}" if component.arguments else ""
    built = f'rules.from_spec("{component.name}", f={f}{arguments})'
    if _is_legacy(summary):
        return [
            "from flwr_robust import rules",
            "from flwr_robust.legacy import RobustFedAvg",
            f"strategy = RobustFedAvg({built})  # with the arguments that {strategy} has",
        ]
    inner = "" if strategy == "FedAvg" else f", strategy={strategy}(...)"
    remark = "with the arguments that FedAvg has" if strategy == "FedAvg" else f"around your {strategy}"
    return [
        "from flwr_robust import RobustStrategy, rules",
        f"strategy = RobustStrategy({built}{inner})  # {remark}",
    ]


def _is_legacy(summary: Summary) -> bool:
    words = ("server_fn", "flwr.server.strategy")
    return any(word in path.read_text(errors="replace") for path in summary.plan.project.sources() for word in words)


def advice(summary: Summary) -> str:
    """Return one sentence: the best worst case, the lines to paste, and what the test does not prove."""
    best, options = summary.best, summary.plan.options
    limits = (
        f"it proves nothing of other attacks, of more than {options.malicious} of {options.nodes} liars, of other data "
        "or of backdoors"
    )
    if best is None:
        return f"No defence came through all attacks, and the notes above say why; {limits}."
    value = f"{summary.metric} {shown(summary.worst(best))}"
    if best == NONE:
        return f"No defence of these has a better worst case than none ({value}): keep what you have, though {limits}."
    undefended = summary.worst(NONE) if NONE in summary.plan.defenses else None
    compared = "" if NONE not in summary.plan.defenses else (
        f" against {FAILED if undefended is None else shown(undefended)} without a defence"
    )  # fmt: skip
    lines = "\n".join(f"    {line}" for line in paste(summary, best))
    return (
        f"Of these defences {best} has the best worst case, {value}{compared}; to use it, paste\n\n{lines}\n\n"
        f"in the place of your strategy, and remember what this test does not prove: {limits}."
    )
