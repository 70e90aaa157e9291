"""Candidates beside a strategy: what other rules would have made of the replies that it aggregated."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from math import isfinite, nan
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.supercore import log

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import FloatArray
from flwr_robust.messages.replies import Inbox, Question, Sent, read_replies
from flwr_robust.record.report import CandidateReport, Record, RoundReport
from flwr_robust.rules.base import Rule
from flwr_robust.rules.run import Aggregate, BadRows, Skipped, outcome_of, run
from flwr_robust.strategies.options import ObserveOptions, Reading, threads_and_device
from flwr_robust.strategies.side_inputs import RoundInputs, reads, require_root, root_function

# Names that a summary lists, of the nodes that a candidate would have left out.
SHOWN = 5
CHUNK = 2**18


@dataclass(frozen=True)
class Seen:
    """The replies of a round, read before a strategy has them, and what they answer."""

    inbox: Inbox
    sent: Sent


@dataclass
class Tally:
    """What a candidate has come to over the rounds."""

    rounds: int = 0
    failed: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.cosines: list[float] = []
        self.shares: list[float] = []
        self.left_out: Counter[int] = Counter()

    def add(self, found: CandidateReport, step_norm: float | None) -> None:
        """Count a round in."""
        self.rounds += 1
        self.seconds += found.seconds
        self.failed += found.failed is not None
        self.left_out.update(found.left_out)
        if found.cosine is not None:
            self.cosines.append(found.cosine)
        if found.distance is not None and step_norm:
            self.shares.append(found.distance / step_norm)

    def told(self) -> str:
        """Return it in a sentence."""
        nodes = ", ".join(f"{node} ({count} x)" for node, count in self.left_out.most_common(SHOWN))
        more = f" and {len(self.left_out) - SHOWN} more" if len(self.left_out) > SHOWN else ""
        return (
            f"its aggregate is {_middle(self.shares)} steps from the step that was taken, cosine "
            f"{_middle(self.cosines)} (medians of {self.rounds} rounds); would have left out "
            f"{nodes + more or 'no node'}; {self.seconds / max(1, self.rounds):.3g} s a round"
            + (f"; failed in {self.failed} of {self.rounds} rounds" if self.failed else "")
        )


def _middle(values: Sequence[float]) -> str:
    return f"{median(values):.3g}" if values else "unknown"


class Observer:
    """Computes candidates from a strategy's replies. Nothing that goes wrong here reaches training.

    Parameters
    ----------
    candidates : mapping of str to Rule
        By name. They are copied: a rule that the strategy runs as well keeps its memory to itself.
    owner : str
        Whom error messages name.
    options : ObserveOptions
        As they were given.

    Raises
    ------
    ValueError
        If there is no candidate, one is no rule or lacks what it reads, or an option makes no sense.
    """

    def __init__(self, candidates: Mapping[str, Rule], owner: str, options: ObserveOptions) -> None:
        unknown = [name for name in options if name not in ObserveOptions.__annotations__]
        if unknown:
            allowed = ", ".join(ObserveOptions.__annotations__)
            raise TypeError(f"{owner} was given {unknown[0]!r}, which it does not take; it takes {allowed}.")
        self.candidates = {name: _candidate(name, rule, owner) for name, rule in _named(candidates, owner)}
        self.root_fn = root_function(options.get("root_fn"), owner)
        for rule in self.candidates.values():
            require_root(rule, self.root_fn, owner)
        self.threads, self.device = threads_and_device(options, owner)
        self.reading = Reading().changed_by({k: v for k, v in options.items() if k == "statistics"}, owner)  # type: ignore[arg-type]
        self.record = Record().changed_by(options, owner)
        self.tallies = {name: Tally() for name in self.candidates}

    def note(self, questions: Iterable[Question], model: ArrayRecord | None) -> Sent:
        """Return what is sent, for those that no grid tells; nothing where it cannot be read."""
        try:
            return Sent(questions, model)
        except Exception as error:
            log(WARNING, "Candidates: what is sent cannot be read: %s", error)
            return Sent()

    def read(self, replies: Sequence[Message], sent: Sent) -> Seen | None:
        """Read the replies before a strategy changes them; None, and a WARNING, where that fails."""
        try:
            return Seen(read_replies(replies, sent, self.reading.statistics), sent)
        except Exception as error:
            log(WARNING, "Candidates: the replies cannot be read: %s: %s", type(error).__name__, error)
            return None

    def observe(
        self, server_round: int, seen: Seen | None, made: ArrayRecord | None, strategy: Any
    ) -> RoundReport | None:
        """Compute the candidates and report them; None, and a WARNING, where even that fails.

        Parameters
        ----------
        server_round : int
            Number of the round.
        seen : Seen or None
            The replies.
        made : ArrayRecord or None
            The model that the strategy made of them.
        strategy : Strategy
            Its own report of the round, if it has one, is the frame.
        """
        if seen is None:
            return None
        try:
            with _generators_kept():
                report = self._frame(server_round, seen, strategy)
                step = _step(seen.inbox, made)
                report.step_norm = None if step is None else _norm(step)
                for name, rule in self.candidates.items():
                    report.candidates[name] = self._compute(name, rule, server_round, seen, step)
                    self.tallies[name].add(report.candidates[name], report.step_norm)
                self.record.keep(report)
            return report
        except Exception as error:
            log(WARNING, "Candidates of round %s: %s: %s", server_round, type(error).__name__, error, exc_info=True)
            return None

    def _frame(self, server_round: int, seen: Seen, strategy: Any) -> RoundReport:
        own = getattr(strategy, "reports", None)
        if isinstance(own, list) and own and isinstance(own[-1], RoundReport) and own[-1].round == server_round:
            return replace(own[-1], candidates={})
        f = getattr(strategy, "num_malicious_nodes", 0)
        count = len(seen.inbox.accepted)
        report = RoundReport(server_round, type(strategy).__name__, count, f if isinstance(f, int | float) else 0)
        report.add_unused(seen.inbox.nodes)
        fates = [(reply.node_id, reply.reason) for reply in seen.inbox.quarantined]
        report.complete(fates, [], seen.sent.asked, seen.sent.heard)
        return report

    def _compute(
        self, name: str, rule: Rule, server_round: int, seen: Seen, step: FloatArray | None
    ) -> CandidateReport:
        inbox = copy(seen.inbox)
        inbox.quarantined = list(inbox.quarantined)
        report, begin = CandidateReport(repr(rule)), perf_counter()
        try:
            found = self._aggregate(rule, server_round, inbox, seen.sent)
            if isinstance(found, Skipped):
                report.failed = found.reason
            else:
                _compare(report, found, inbox, step)
        except Exception as error:
            report.failed = f"{type(error).__name__}: {str(error)[:200]}"
        report.seconds = perf_counter() - begin
        if report.failed is not None:
            log(WARNING, "Candidate %r has nothing in round %s: %s", name, server_round, report.failed)
        return report

    def _aggregate(self, rule: Rule, server_round: int, inbox: Inbox, sent: Sent) -> Aggregate | Skipped:
        """Run a rule as a strategy does, without replies that turn out not to be finite."""
        told = None
        if reads(rule):
            model = None if inbox.model is None else inbox.model.values
            told = RoundInputs(server_round, sent.model, model, self.root_fn, lambda arrays: ArrayRecord(dict(arrays)))
        rule.require_layers(inbox.layout.learned)
        while True:
            updates = inbox.updates()
            updates.device = self.device
            tell = None if told is None else told.to(inbox.nodes)
            found = outcome_of(
                lambda updates=updates, tell=tell: run(  # type: ignore[misc]
                    rule,
                    updates,
                    self.threads,
                    float32_only=True,
                    proved=inbox.proved,
                    side=None if tell is None else tell(rule, updates),
                )
            )
            if not isinstance(found, BadRows):
                return found
            inbox.quarantine(dict.fromkeys(found.rows, found.fault))

    def log_summary(self, inner: str) -> None:
        """Log the candidates; and once rounds have been observed, what would have changed."""
        log(INFO, "\t├──> Observed beside %s, which trains as without them:", inner)
        for name, rule in self.candidates.items():
            tally = self.tallies[name]
            log(INFO, "\t│\t├── %s: %s", name, tally.told() if tally.rounds else rule)
        if self.device is not CPU:
            log(INFO, "\t│\t├── Device: %s, through torch", self.device.name)
        if self.record.report_path is not None:
            log(INFO, "\t│\t└── Reports: %s", self.record.report_path)


def _named(candidates: Mapping[str, Rule], owner: str) -> list[tuple[str, Rule]]:
    if not isinstance(candidates, Mapping) or not candidates:
        raise ValueError(
            f"{owner} was given candidates = {candidates!r}; give rules by name, such as "
            '{"trimmed": rules.TrimmedMean(f=2)}.'
        )
    return list(candidates.items())


def _candidate(name: str, rule: Rule, owner: str) -> Rule:
    if not isinstance(name, str):
        raise ValueError(f"{owner} was given a candidate named {name!r}; give it a name that is a text.")
    if not isinstance(rule, Rule):
        known = ", whose .rule is one" if isinstance(getattr(rule, "rule", None), Rule) else ""
        raise ValueError(
            f"{owner} was given the candidate {name!r} = {rule!r}{known}; give a rule or chain of flwr_robust.rules."
        )
    return deepcopy(rule)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leave Python's and NumPy's global generators, which training may draw from, as they are."""
    own, numpys = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)


def _step(inbox: Inbox, made: ArrayRecord | None) -> FloatArray | None:
    """Return by what a new model differs from the one that was sent; None where it has other arrays."""
    layers = inbox.layout.learned
    if made is None or not layers:
        return None
    known = inbox.layout.known(inbox.model)
    step = np.empty(layers[-1].stop, inbox.layout.dtype_of(layers))
    for layer in layers:
        values = made[layer.name].numpy().ravel() if layer.name in made else None
        if values is None or values.size != layer.size:
            return None
        part = step[layer.start : layer.stop]
        with np.errstate(over="ignore", invalid="ignore"):
            part[:] = values
            if layer.name in known:
                part -= known[layer.name]
            part[inbox.holes.get(layer.name, [])] = 0.0
    return step


def _compare(report: CandidateReport, found: Aggregate, inbox: Inbox, step: FloatArray | None) -> None:
    """Write down what an aggregate is beside the step that was taken, and let the rule remember its round."""
    report.norm = _norm(found.vector)
    if step is not None and step.shape == found.vector.shape:
        report.distance = _norm(found.vector, step)
        report.cosine = _cosine(found.vector, step)
    weights = found.weights
    unused = (weights == 0.0) if weights is not None else np.zeros(len(inbox.accepted), bool)
    if found.used is not None:
        unused = found.used == 0.0
    nodes = {reply.node_id for reply in inbox.quarantined} - set(inbox.nodes)
    nodes |= {node for node, left in zip(inbox.nodes, unused.tolist(), strict=True) if left}
    report.left_out = sorted(nodes)
    found.trace.store()


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def _chunks(*vectors: FloatArray) -> Iterator[tuple[FloatArray, ...]]:
    for start in range(0, len(vectors[0]), CHUNK):
        yield tuple(vector[start : start + CHUNK].astype(np.float64) for vector in vectors)


def _norm(vector: FloatArray, other: FloatArray | None = None) -> float | None:
    """Return the Euclidean norm of a vector, or of its difference from another one; None where it has none."""
    given = (vector,) if other is None else (vector, other)
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(float(np.square(a - b[0] if b else a).sum()) for a, *b in _chunks(*given))
    return _finite(total**0.5)


def _cosine(one: FloatArray, other: FloatArray) -> float | None:
    with np.errstate(over="ignore", invalid="ignore"):
        product = sum(float(a @ b) for a, b in _chunks(one, other))
        norms = (_norm(one) or nan) * (_norm(other) or nan)
    # Rounding may carry it beyond one.
    return _finite(min(1.0, max(-1.0, product / norms))) if isfinite(norms) and isfinite(product) else None
