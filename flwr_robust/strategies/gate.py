"""Between the nodes and a strategy: what was sent, which replies count, what is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from logging import INFO, WARNING
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.passes import NonFiniteRowsError
from flwr_robust.replies import Inbox, Layout, Questions, RejectedError, admit, read_replies
from flwr_robust.report import RoundReport
from flwr_robust.rules.base import GaveUpError, Stage, State, undo_all
from flwr_robust.rules.checks import resolve_f
from flwr_robust.strategies.exclusion import addressed_to, substitute
from flwr_robust.strategies.options import RecordOptions
from flwr_robust.suspicion import Suspicion, make_suspicion, places_to_spare
from flwr_robust.updates import ReplyUpdates

T = TypeVar("T")
# What the names of suspicions begin with in a saved state.
SUSPICION = "suspicion."
LARGEST = float(np.finfo(np.float32).max)


class BeyondFloat32Error(NonFiniteRowsError):
    """Some rows are too long for float32, in which models are sent."""

    fault = "the arrays hold values beyond float32"


def refuse_beyond_float32(norms: NDArray[np.float64]) -> None:
    """Raise BeyondFloat32Error if the norm of a row has no float32."""
    beyond = np.flatnonzero(norms > LARGEST).tolist()
    if beyond:
        raise BeyondFloat32Error(beyond)


class Gate:
    """Keeps a strategy's view of the current round, and its reports.

    Parameters
    ----------
    report_path : str or Path, optional
        File that gets one JSON line a round.
    suspicion : Suspicion, optional
        Record of the nodes that were left out, over the rounds.
    """

    def __init__(self, report_path: str | Path | None = None, suspicion: Suspicion | None = None) -> None:
        self.report_path = report_path
        self.suspicion = suspicion
        self.excluded: list[int] = []
        self.reports: list[RoundReport] = []
        self.arrays: ArrayRecord | None = None
        self.layout: Layout | None = None
        self.model: dict[str, NDArray[Any]] | None = None
        self._asked: dict[str, Questions | None] = {"train": None, "evaluate": None}

    def anew(self, owner: str, options: RecordOptions) -> Gate:
        """Return a gate that has seen nothing yet, with the settings of this one where the options give none.

        Raises
        ------
        ValueError
            If an option has a value that makes no sense; the text names the owner.
        """
        own = self.suspicion
        decay = options.get("suspicion", None if own is None else own.decay)
        threshold = options.get("exclude_after", None if own is None else own.exclude_after)
        return Gate(options.get("report_path", self.report_path), make_suspicion(decay, threshold, owner))

    @property
    def suspicions(self) -> dict[int, float]:
        """Suspicion of each node that took part; empty where no record is kept."""
        return {} if self.suspicion is None else dict(self.suspicion.values)

    def state(self) -> State:
        """Return the suspicions as arrays, under names that begin with `SUSPICION`; nothing if there are none."""
        kept = {} if self.suspicion is None else self.suspicion.state()
        return {SUSPICION + name: values for name, values in kept.items()}

    def load_state(self, state: State) -> State:
        """Take the suspicions out of a saved state, and return what is left.

        Raises
        ------
        ValueError
            If the state holds suspicions, but no record is kept.
        """
        record = {name.removeprefix(SUSPICION): value for name, value in state.items() if name.startswith(SUSPICION)}
        if record and self.suspicion is None:
            raise ValueError("the state holds suspicions, but this strategy keeps none: give it suspicion=0.9.")
        if record and self.suspicion is not None:
            self.suspicion.load_state(record)
        return {name: value for name, value in state.items() if not name.startswith(SUSPICION)}

    def reset(self) -> None:
        """Forget the suspicions."""
        if self.suspicion is not None:
            self.suspicion.reset()

    def exclude(
        self, messages: Iterable[Message], grid: Grid, f: int | float, check: Callable[[int], None]
    ) -> list[Message]:
        """Ask other nodes than the most suspicious ones, where that is on.

        Parameters
        ----------
        messages : iterable of Message
            Requests to train.
        grid : Grid
            Knows the connected nodes.
        f : int or float
            At most so many nodes are excluded (or this fraction of the connected ones).
        check : callable
            Raises ValueError where a number of replies is too small: so many are asked in any case.
        """
        kept = list(messages)
        asked = {message.metadata.dst_node_id: message for message in kept}
        pairs = self.substitute(list(asked), grid.get_node_ids, f, check)
        return [addressed_to(node, asked[sampled]) for sampled, node in pairs] if self.excluded else kept

    def substitute(
        self,
        sampled: Sequence[int],
        connected: Callable[[], Iterable[int]],
        f: int | float,
        check: Callable[[int], None],
    ) -> list[tuple[int, int]]:
        """Return (sampled node, node to ask in its place), as `exclude` does; `connected` tells all nodes."""
        before, self.excluded = self.excluded, []
        if self.suspicion is None or self.suspicion.exclude_after is None or not sampled:
            return [(node, node) for node in sampled]
        nodes = list(connected())
        spare = places_to_spare(len(sampled), len(nodes), resolve_f(f, len(nodes)), lambda n: _passes(check, n))
        self.excluded = self.suspicion.above(nodes, spare)
        for node in self.excluded:
            if node not in before:
                log(WARNING, "Node %s is excluded from training: %s", node, self._why(node))
        return substitute(sampled, self.excluded, nodes)

    def _why(self, node: int) -> str:
        assert self.suspicion is not None
        return f"its suspicion is {self.suspicion.values[node]:.3f}, above {self.suspicion.exclude_after:g}"

    def sent(self, kind: str, messages: Iterable[Message], arrays: ArrayRecord | None) -> list[Message]:
        """Remember the nodes that are asked and, for training, the model that they get (None: there is none yet).

        Raises
        ------
        ValueError
            If the model holds arrays that are neither floats up to 64 bits, integers nor bool.
        """
        if kind == "train":
            if not _kernels_ready():
                log(INFO, "Loading compiled kernels; the first time on a machine they are compiled, in some seconds")
            try:
                self.layout = self.model = None
                if arrays is not None:
                    self.layout = Layout.of(arrays)
                    self.model = self.layout.read(arrays)
            except RejectedError as error:
                raise ValueError(f"this model cannot be aggregated: {error}.") from error
            self.arrays = arrays
        kept = list(messages)
        # A grid writes the ids of the messages into these metadata when it sends them.
        self._asked[kind] = {message.metadata.dst_node_id: message.metadata for message in kept}
        return kept

    def asked(self, kind: str) -> Questions | None:
        """Return the nodes that were asked to train or to evaluate, and by what; None if that is not known."""
        return self._asked[kind]

    def open(self, replies: Iterable[Message]) -> Inbox:
        """Read the replies to the training round; the model that was sent is what they must look like."""
        inbox = read_replies(replies, self._asked["train"], self.layout)
        log(
            INFO,
            "aggregate_train: Received %s usable replies and %s others",
            len(inbox.accepted),
            len(inbox.quarantined),
        )
        return inbox

    def run(
        self,
        inbox: Inbox,
        stages: Sequence[Stage],
        check: Callable[[int], None],
        work: Callable[[ReplyUpdates], T],
    ) -> tuple[T | None, str | None]:
        """Do `work` on the accepted updates, without those that turn out not to be finite.

        Parameters
        ----------
        inbox : Inbox
            Replies; those with NaN, infinity, or values beyond float32 are moved to its quarantine.
        stages : sequence of Stage
            Those whose state a rejected attempt must not leave changed.
        check : callable
            Raises ValueError where a number of replies is too small.
        work : callable
            Takes the updates.

        Returns
        -------
        The result and None; or None and why the round is skipped.
        """
        undo = undo_all(stages)
        while True:
            try:
                check(len(inbox.accepted))
            except ValueError as error:
                return None, str(error)
            try:
                return work(inbox.updates(self.model)), None
            except GaveUpError as error:
                undo()
                return None, str(error)
            except NonFiniteRowsError as error:
                inbox.quarantine(dict.fromkeys(error.rows, error.fault))
                undo()

    def close(self, report: RoundReport, inbox: Inbox) -> None:
        """Complete, log, keep and write the round's report."""
        report.add_quarantined(inbox.quarantined)
        report.excluded = self.excluded
        asked = self._asked["train"]
        report.unanswered = [node for node in asked or () if node not in report.nodes]
        if self.suspicion is not None:
            left_out = {node: share for node, share in report.left_out().items() if asked is None or node in asked}
            self.suspicion.update(left_out)
        for node_id, reason in inbox.quarantined:
            log(WARNING, "\t> Quarantined the reply of node %s: %s", node_id, reason)
        if report.unanswered:
            log(WARNING, "\t> No reply from %s", ", ".join(map(str, report.unanswered)))
        if report.skipped:
            log(WARNING, "Round %s is skipped and the global model stays: %s", report.round, report.skipped)
        self.reports.append(report)
        if self.report_path is not None:
            report.append_to(self.report_path)

    def open_evaluate(self, replies: Iterable[Message]) -> list[tuple[int, Message]]:
        """Return the usable replies to an evaluation round, with their node ids."""
        quarantined: list[tuple[int, str]] = []
        admitted = admit(replies, self._asked["evaluate"], quarantined)
        for node_id, reason in quarantined:
            log(WARNING, "\t> Left out the evaluation reply of node %s: %s", node_id, reason)
        log(
            INFO,
            "aggregate_evaluate: Received %s usable replies and %s others",
            len(admitted),
            len(quarantined),
        )
        return admitted


def _kernels_ready() -> bool:
    """Whether this process has used compiled kernels before."""
    kernels = sys.modules.get("flwr_robust.kernels")
    return kernels is not None and bool(kernels.add_gram.signatures or kernels.sort_rows.signatures)


def _passes(check: Callable[[int], None], n: int) -> bool:
    try:
        check(n)
    except ValueError:
        return False
    return True
