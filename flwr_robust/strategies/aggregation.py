"""What our strategies share on either of Flower's interfaces: a rule, each node's fate, what is kept between rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from logging import INFO, WARNING
from typing import Any, ParamSpec, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.devices import CPU, Device
from flwr_robust.engine import Aggregate, aggregate
from flwr_robust.replies import Inbox, Layout, Reply, make_array
from flwr_robust.report import RoundReport
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import check_f, check_positive, resolve_f
from flwr_robust.rules.theory import kappa
from flwr_robust.strategies.gate import Gate, refuse_beyond_float32
from flwr_robust.strategies.momentum import ServerMomentum
from flwr_robust.strategies.options import OwnOptions, threads_and_device
from flwr_robust.updates import FloatArray, ReplyUpdates

P = ParamSpec("P")
T = TypeVar("T")
# Values that are turned into the new model at a time.
CHUNK = 2**16


class RobustAggregation:
    """A rule or chain, and what it does in a round with the replies of nodes that may lie.

    Attributes
    ----------
    rule : Rule
        A rule or chain of `flwr_robust.rules`, or one of your own.
    num_malicious_nodes : int or float
        Nodes that may lie: a number of them, or a fraction.
    server_learning_rate : float
        What the aggregate is multiplied by before it is added to the model.
    momentum : ServerMomentum
        Of the aggregates.
    threads : int or None
        Threads that aggregate; None for the default.
    device : Device
        Where blocks are aggregated.
    gate : Gate
        Keeps the view of the current round, and the reports.
    """

    rule: Rule
    num_malicious_nodes: int | float
    server_learning_rate: float
    momentum: ServerMomentum
    threads: int | None
    device: Device
    gate: Gate

    def _set_up(self, rule: Rule, num_malicious_nodes: int | float | None, options: OwnOptions) -> None:
        """Take over what a strategy was constructed with.

        Raises
        ------
        ValueError
            If the rule is none, or an option has a value that makes no sense.
        """
        name = type(self).__name__
        if not isinstance(rule, Rule):
            known = ", whose .rule is one" if isinstance(getattr(rule, "rule", None), Rule) else ""
            raise ValueError(f"{name} was given {rule!r}{known}; give a rule or chain of flwr_robust.rules.")
        self.rule = rule
        self.num_malicious_nodes = check_f(rule.f if num_malicious_nodes is None else num_malicious_nodes, name)
        rate = options.get("server_learning_rate", 1.0)
        self.server_learning_rate = check_positive(rate, "server_learning_rate", name)
        self.momentum = ServerMomentum(options.get("server_momentum", 0.0), name)
        self.threads, self.device = threads_and_device(options, name)
        self.gate = Gate().anew(name, options)

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each training round."""
        return self.gate.reports

    @property
    def suspicions(self) -> dict[int, float]:
        """Suspicion in [0, 1] of each node that took part, by node id; empty where no record is kept."""
        return self.gate.suspicions

    def state(self) -> ArrayRecord:
        """Return what is kept between rounds (centres, momenta, where random draws stand, suspicions).

        Save it with the model, and give it to `load_state` before resuming a run.
        """
        kept = self.rule.state() | self.momentum.state() | self.gate.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned, so that a resumed run gives what an unbroken one gives.

        Raises
        ------
        ValueError
            If it is the state of another chain, or holds suspicions or momentum where none are kept.
        """
        kept = {name: array.numpy() for name, array in state.items()}
        self.rule.load_state(self.gate.load_state(self.momentum.load_state(kept)))

    def reset(self) -> None:
        """Forget what is kept between rounds; excluded nodes are asked again."""
        self.rule.reset()
        self.momentum.reset()
        self.gate.reset()

    def _log_aggregation(self, min_nodes: int) -> None:
        """Log the chain, f, the least number of replies, and kappa where it is proven."""
        rule, nodes = self.rule, max(min_nodes, self.rule.min_rows)
        log(INFO, "\t├──> Robust aggregation:")
        log(INFO, "\t│\t├── Chain: %s", rule)
        log(INFO, "\t│\t├── Malicious nodes to tolerate: %s", self.num_malicious_nodes)
        log(INFO, "\t│\t├── Least number of replies: %d", rule.min_rows)
        log(INFO, "\t│\t├── Breakdown point of %s: %s", rule.last.name, rule.last.breakdown)
        coefficient = kappa(rule, nodes, resolve_f(self.num_malicious_nodes, nodes))
        known = "not proven" if coefficient is None else f"{coefficient:.4g}"
        log(INFO, "\t│\t├── Robustness coefficient kappa at %d replies: %s", nodes, known)
        if self.gate.suspicion is not None:
            log(INFO, "\t│\t├── %s", self.gate.suspicion)
        if self.device is not CPU:
            log(INFO, "\t│\t├── Device: %s, through torch", self.device.name)
        if self.momentum.beta:
            log(INFO, "\t│\t├── Server momentum: %g", self.momentum.beta)
        log(INFO, "\t│\t└── Server learning rate: %g", self.server_learning_rate)
        unset = [stage.name for stage in (*rule.stages, rule.last) if stage.uses_f and not stage.f]
        if unset:
            log(
                WARNING,
                "\t│\t    num_malicious_nodes is 0, so %s protects from nobody: set it to the nodes that may lie",
                ", ".join(unset),
            )
        if self.gate.suspicion is not None and self.gate.suspicion.exclude_after and not self.num_malicious_nodes:
            log(WARNING, "\t│\t    num_malicious_nodes is 0, so exclude_after excludes nobody: set it")

    def _aggregate_round(
        self, server_round: int, replies: Iterable[Message], refused: str | None = None
    ) -> tuple[ArrayRecord | None, list[Reply]]:
        """Aggregate the usable replies; the report says what became of each node.

        Parameters
        ----------
        server_round : int
            Number of the round.
        replies : iterable of Message
            As they arrived.
        refused : str, optional
            Why the round is to be skipped, whatever the replies hold.

        Returns
        -------
        The new model, or None where the round is skipped; and the replies that were usable.
        """
        inbox = self.gate.open(replies)
        outcome, skipped = None, refused
        if refused is None:
            outcome, skipped = self.gate.run(inbox, [self.rule], self.rule.check, self._aggregate)
        report = RoundReport(
            server_round, repr(self.rule), len(inbox.accepted), self.num_malicious_nodes, skipped=skipped
        )
        arrays = None
        nodes = [reply.node_id for reply in inbox.accepted]
        if outcome is None:
            report.add_unused(nodes)
        else:
            report.add_accepted(nodes, outcome.norms, outcome.weights, outcome.trace, outcome.used)
            self.momentum.step(outcome.vector)
            arrays = self._new_model(outcome.vector, inbox)
        self.gate.close(report, inbox)
        return arrays, inbox.accepted

    def _aggregate(self, updates: ReplyUpdates) -> Aggregate:
        updates.device = self.device
        return aggregate(self.rule, updates, self.threads, check=refuse_beyond_float32)

    def _new_model(self, aggregated: FloatArray, inbox: Inbox) -> ArrayRecord:
        """``global + rate * aggregate`` under the names of the layout; overwrites `aggregated`."""
        layout, model = inbox.layout or Layout(()), self.gate.model
        columns = {layer.name: slice(layer.start, layer.stop) for layer in layout.layers}
        made: dict[str, Array] = {}
        for name, dtype, shape in layout.entries:
            if name in columns:
                values = aggregated[columns[name]]
                step_from(None if model is None else model[name], values, self.server_learning_rate, dtype)
                made[name] = make_array(values.astype(dtype, copy=False), shape)
            else:
                made[name] = make_array(median_of_integers([r.arrays[name] for r in inbox.accepted]), shape)
        return ArrayRecord(made)


def attempt(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T | None:
    """Return what a user's function makes of the nodes' metrics; None where it fails on what nodes sent.

    That costs the metrics, not the run.
    """
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        log(WARNING, "%s failed on the nodes' metrics and is left out: %s: %s", name, type(error).__name__, error)
        return None


def step_from(model: FloatArray | None, update: FloatArray, rate: float, dtype: np.dtype[Any]) -> None:
    """Overwrite the update by ``model + rate * update``, within the range of the model's dtype."""
    largest = float(np.finfo(dtype).max)
    for start in range(0, update.size, CHUNK):
        part = update[start : start + CHUNK]
        values = rate * part.astype(np.float64)
        if model is not None:
            values += model[start : start + CHUNK]
        np.clip(values, -largest, largest, out=values)
        part[:] = values


def median_of_integers(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """Coordinate-wise median in the arrays' own dtype: of an even number the lower of the middle two."""
    result = np.empty_like(rows[0])
    middle = (len(rows) - 1) // 2
    for start in range(0, result.size, CHUNK):
        block = np.stack([row[start : start + CHUNK] for row in rows])
        result[start : start + CHUNK] = np.partition(block, middle, axis=0)[middle]
    return result
