"""What happened to each node in each round, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from logging import WARNING
from pathlib import Path
from stat import S_ISREG
from statistics import median
from typing import Any

import numpy as np
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.record.suspicion import FORGIVE_AFTER, State, Suspicion, make_suspicion

# What the names of suspicions begin with in a saved state.
SUSPICION = "suspicion."
# Reports that are kept in memory by default: a run of thousands of rounds and nodes has gigabytes of them.
KEPT = 100
# What a record can be changed by.
SETTINGS = frozenset({"report_path", "on_report", "keep_reports", "suspicion", "exclude_after", "forgive_after"})
# Bytes that are written, and taken back, to find out whether a disk has room for reports.
ROOM = 2**16


@dataclass
class NodeReport:
    """A node's fate in one round.

    Attributes
    ----------
    status : str
        ``"accepted"`` or ``"quarantined"``.
    reason : str or None
        Why it was quarantined.
    weight : float or None
        Mean coefficient of its update in the aggregate, over coordinates, clip factors apart; None where the rule has
        none (a rule of your own that works on coordinates or blocks).
    norm : float or None
        Euclidean norm of its update.
    clip_factor : float or None
        What its update was multiplied by; None where nothing clips.
    used : float or None
        Share of the model's layers in which its update counted, where the rule filters rows or layers without
        giving each row one weight (LASA, Bulyan); None elsewhere.
    spread : bool
        Whether the coefficient differs between coordinates: then a weight of zero is no verdict of the rule's.
    distance : float or None
        Distance of its update from the aggregate, in units of the nodes' median distance.
    cosine : float or None
        Between its update and the aggregate. Both are of at most 4,096 coordinates, spread over all arrays.
    norm_rank : int or None
        Place of its norm among the nodes': 1 is the longest.
    """

    status: str
    reason: str | None = None
    weight: float | None = None
    norm: float | None = None
    clip_factor: float | None = None
    used: float | None = None
    spread: bool = False
    distance: float | None = None
    cosine: float | None = None
    norm_rank: int | None = None

    @property
    def accepted(self) -> bool:
        """Whether its update came as far as the rule."""
        return self.status == "accepted"

    @property
    def left_out(self) -> float:
        """1 if it was quarantined or has the weight zero, 0 if it was used, between them if in some layers only."""
        if not self.accepted:
            return 1.0
        if self.used is not None:
            return 1.0 - self.used
        return float(self.weight == 0.0 and not self.spread)

    @property
    def is_judged(self) -> bool:
        """Whether the rule chooses among nodes, or layers of theirs."""
        return (self.weight is not None and not self.spread) or self.used is not None


@dataclass
class CandidateReport:
    """What a rule that was only observed would have made of a round's replies.

    Attributes
    ----------
    chain : str
        The rule or chain.
    norm : float or None
        Euclidean norm of its aggregate.
    distance, cosine : float or None
        Between its aggregate and the step that training took; None where either is missing.
    left_out : list of int
        Node ids that it would have quarantined or given the weight zero (in all layers).
    seconds : float
        That it took.
    failed : str or None
        Why it has no aggregate.
    """

    chain: str
    norm: float | None = None
    distance: float | None = None
    cosine: float | None = None
    left_out: list[int] = field(default_factory=list)
    seconds: float = 0.0
    failed: str | None = None


@dataclass
class RoundReport:
    """One training round.

    Attributes
    ----------
    round : int
        Server round.
    chain : str
        The rule or chain that ran.
    n : int
        Replies that were aggregated.
    f : int or float
        Malicious nodes to tolerate.
    nodes : dict of int to NodeReport
        By node id. Where a node sent several replies, the first one's fate, and the others in `extra`.
    extra : list of (int, str)
        Node id and reason of further replies of a node that is in `nodes`.
    threshold : float or None
        Norm that updates were clipped to.
    drawn : list of str
        What random stages drew.
    rule_drawn : int or None
        Place in its pool of the rule that MixTailor drew.
    skipped : str or None
        Why the round was skipped and the global model stayed.
    excluded : list of int
        Node ids that were not asked, because of their suspicion.
    unanswered : list of int
        Node ids that were asked and sent no reply in time, which raises no suspicion.
    weights_exact : bool or None
        Whether the nodes' weights are means over all coordinates, and not over a sample; None where there are none.
    step_norm : float or None
        Euclidean norm of the step that training took, where candidates were observed.
    candidates : dict of str to CandidateReport
        What `Observe` computed beside the round, by name.
    """

    round: int
    chain: str
    n: int
    f: int | float
    nodes: dict[int, NodeReport] = field(default_factory=dict)
    extra: list[tuple[int, str]] = field(default_factory=list)
    threshold: float | None = None
    drawn: list[str] = field(default_factory=list)
    rule_drawn: int | None = None
    skipped: str | None = None
    excluded: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    weights_exact: bool | None = None
    step_norm: float | None = None
    candidates: dict[str, CandidateReport] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RoundReport:
        """Return the report that `to_dict` made this of.

        Raises
        ------
        ValueError
            If it is no such report.
        """
        try:
            nodes = {int(key): NodeReport(**node) for key, node in values["nodes"].items()}
            extra = [(int(node), str(reason)) for node, reason in values.get("extra", [])]
            candidates = {str(name): CandidateReport(**found) for name, found in values.get("candidates", {}).items()}
            return cls(**{**values, "nodes": nodes, "extra": extra, "candidates": candidates})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this is no report of a round: {type(error).__name__}: {error}") from error

    def left_out(self) -> dict[int, float]:
        """Return `NodeReport.left_out` of each node whose reply this round judged.

        In a skipped round these are the quarantined nodes: the others have no weight.
        """
        return {
            node_id: node.left_out for node_id, node in self.nodes.items() if self.skipped is None or not node.accepted
        }

    @property
    def quarantined(self) -> list[tuple[int, str]]:
        """Node id and reason of each reply that could not be used."""
        own = [(node_id, node.reason or "") for node_id, node in self.nodes.items() if not node.accepted]
        return own + self.extra

    def add_unused(self, node_ids: Sequence[int]) -> None:
        """Record nodes with usable replies in a round that is skipped."""
        self.nodes |= {node_id: NodeReport("accepted") for node_id in node_ids}

    def complete(
        self,
        quarantined: Sequence[tuple[int, str]],
        excluded: Sequence[int],
        asked: Collection[int] | None,
        heard: Collection[int] = (),
    ) -> None:
        """Record why replies were quarantined, which nodes were excluded, and which were asked but did not reply.

        From the nodes that were `heard` something came, whether or not it was handed on.
        """
        for node_id, reason in quarantined:
            if node_id in self.nodes:
                self.extra.append((node_id, reason))
            else:
                self.nodes[node_id] = NodeReport("quarantined", reason)
        self.excluded = list(excluded)
        self.unanswered = [node for node in asked or () if node not in self.nodes and node not in heard]

    def add_accepted(
        self,
        node_ids: Sequence[int],
        *,
        norms: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
        used: NDArray[np.float64] | None = None,
        clip_factors: NDArray[np.float64] | None = None,
    ) -> None:
        """Record nodes whose updates were aggregated, row by row; factors of other rows than nodes are left out."""
        columns = {"weight": weights, "norm": norms, "clip_factor": clip_factors, "used": used}
        known = {key: values for key, values in columns.items() if values is not None and len(values) == len(node_ids)}
        for row, node_id in enumerate(node_ids):
            numbers: dict[str, Any] = {key: float(values[row]) for key, values in known.items()}
            self.nodes[node_id] = NodeReport("accepted", **numbers)

    def add_evidence(
        self,
        node_ids: Sequence[int],
        weights: NDArray[np.float64] | None,
        distances: NDArray[np.float64],
        cosines: NDArray[np.float64],
        *,
        spread: bool,
    ) -> None:
        """Record what was seen of accepted nodes beside the aggregate, row by row."""
        norms = [self.nodes[node_id].norm or 0.0 for node_id in node_ids]
        longest = sorted(norms, reverse=True)
        for row, node_id in enumerate(node_ids):
            node = self.nodes[node_id]
            node.distance, node.cosine = _number(distances[row]), _number(cosines[row])
            node.norm_rank = 1 + longest.index(norms[row])
            if weights is not None:
                node.weight, node.spread = _number(weights[row]), spread

    def metrics(self) -> dict[str, float | int]:
        """Return the round in numbers, as ``robust/...`` train metrics."""
        accepted = [node for node in self.nodes.values() if node.accepted]
        numbers: dict[str, float | int] = {
            "robust/num-accepted": len(accepted),
            "robust/num-quarantined": len(self.nodes) - len(accepted) + len(self.extra),
            "robust/skipped": int(self.skipped is not None),
        }
        norms = [node.norm for node in accepted if node.norm is not None]
        if norms:
            numbers |= {"robust/norm-median": median(norms), "robust/norm-max": max(norms)}
        if any(node.is_judged for node in accepted):
            numbers["robust/num-zero-weight"] = sum(node.left_out == 1.0 for node in accepted)
        if self.excluded:
            numbers["robust/num-excluded"] = len(self.excluded)
        if self.unanswered:
            numbers["robust/num-unanswered"] = len(self.unanswered)
        if self.rule_drawn is not None:
            numbers["robust/rule-drawn"] = self.rule_drawn
        if self.threshold is not None:
            clipped = sum(node.clip_factor is not None and node.clip_factor < 1.0 for node in accepted)
            numbers |= {"robust/clip-threshold": self.threshold, "robust/num-clipped": clipped}
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return asdict(self) | {"nodes": {str(key): asdict(node) for key, node in self.nodes.items()}}

    def append_to(self, path: str | Path) -> None:
        """Append the report to a file, as one line of JSON: the whole line or, where that raises OSError, nothing."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        append_whole(target, (json.dumps(self.to_dict(), allow_nan=False) + "\n").encode())


def _number(value: Any) -> float | None:
    """Return a number as JSON has it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


# What is called with each finished report.
OnReport = Callable[[RoundReport], object]


class Record:
    """What a strategy keeps of the nodes' fates.

    Parameters
    ----------
    report_path : str or Path, optional
        File that gets one JSON line a round.
    suspicion : Suspicion, optional
        How often nodes were left out, over the rounds.
    keep_reports : int or None
        Reports that are kept in memory, the last ones; None for all. The file has all in any case.
    owner : str
        Whom error messages name.
    on_report : callable, optional
        Gets each finished report; what it raises is logged.

    Attributes
    ----------
    reports : list of RoundReport
        One for each of the last training rounds.
    num_trained, num_skipped : int
        Rounds that gave a new model, and those that did not.

    Raises
    ------
    ValueError
        If keep_reports is no number of reports, or on_report no function.
    """

    def __init__(
        self,
        report_path: str | Path | None = None,
        suspicion: Suspicion | None = None,
        keep_reports: int | None = KEPT,
        owner: str = "Record",
        on_report: OnReport | None = None,
    ) -> None:
        self.report_path, self.suspicion = report_path, suspicion
        if keep_reports is not None and not (type(keep_reports) is int and keep_reports > 0):
            raise ValueError(
                f"{owner} was given keep_reports = {keep_reports!r}; give a whole number above 0, or None to keep all."
            )
        if on_report is not None and not callable(on_report):
            raise ValueError(
                f"{owner} was given on_report = {on_report!r}; give a function that takes a RoundReport, or None."
            )
        self.keep_reports, self.on_report = keep_reports, on_report
        self._writable = False
        self.reports: list[RoundReport] = []
        self.num_trained = self.num_skipped = 0

    def changed_by(self, options: Mapping[str, Any], owner: str) -> Record:
        """Return this record; or one without reports, with its settings where the options give no others.

        Raises
        ------
        ValueError
            If an option has a value that makes no sense; the text names the owner.
        """
        if not options.keys() & SETTINGS:
            return self
        own = self.suspicion
        decay = options.get("suspicion", None if own is None else own.decay)
        threshold = options.get("exclude_after", None if own is None else own.exclude_after)
        pardon = options.get("forgive_after", FORGIVE_AFTER if own is None else own.forgive_after)
        return Record(
            options.get("report_path", self.report_path),
            make_suspicion(decay, threshold, owner, pardon),
            options.get("keep_reports", self.keep_reports),
            owner,
            options.get("on_report", self.on_report),
        )

    def require_writable(self) -> None:
        """Make sure that reports can be written, before any node is asked.

        The last line of a file that a killed run left incomplete is cut off.

        Raises
        ------
        ValueError
            If the file, or its folder, cannot be written, or has no room.
        """
        if self.report_path is None or self._writable:
            return
        path = Path(self.report_path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _cut_incomplete(path)
            append_whole(path, b" " * ROOM, keep=False)
        except OSError as error:
            raise ValueError(
                f"report_path = {str(path)!r} cannot be written ({error}): give a file in a folder that can be written "
                f"and has room, or None for no reports on disk."
            ) from error
        # Asked once: a disk that has become full since ends no training.
        self._writable = True

    @property
    def suspicions(self) -> dict[int, float]:
        """Suspicion of each node that took part; empty where none is kept."""
        return {} if self.suspicion is None else dict(self.suspicion.values)

    def add(self, report: RoundReport, asked: Collection[int] | None) -> None:
        """Keep, log and write a complete report; only `asked` nodes (None: all) gain suspicion."""
        if self.suspicion is not None:
            left_out = report.left_out()
            self.suspicion.update({node: x for node, x in left_out.items() if asked is None or node in asked})
        if report.unanswered:
            log(WARNING, "\t> No reply from %s", ", ".join(map(str, report.unanswered)))
        if report.skipped:
            log(WARNING, "Round %s is skipped and the global model stays: %s", report.round, report.skipped)
        self.num_skipped += report.skipped is not None
        self.num_trained += report.skipped is None
        self.keep(report)

    def keep(self, report: RoundReport) -> None:
        """Keep and write a report, and hand it to `on_report`."""
        self.reports.append(report)
        if self.keep_reports is not None:
            del self.reports[: -self.keep_reports]
        if self.report_path is not None:
            self._write(report, self.report_path)
        if self.on_report is not None:
            _tell(self.on_report, report)

    def _write(self, report: RoundReport, path: str | Path) -> None:
        """Write a report; a disk that has become full costs its line, not the training."""
        try:
            report.append_to(path)
        except OSError as error:
            log(WARNING, "The report of round %s is not in %s: %s", report.round, path, error)

    def reset(self) -> None:
        """Forget the suspicions."""
        if self.suspicion is not None:
            self.suspicion.reset()

    def state(self) -> State:
        """Return the suspicions as arrays, under names that begin with `SUSPICION`; nothing if there are none."""
        kept = {} if self.suspicion is None else self.suspicion.state()
        return {SUSPICION + name: values for name, values in kept.items()}

    def load_state(self, state: State) -> State:
        """Take the suspicions out of a saved state, and return what is left.

        Raises
        ------
        ValueError
            If the state holds suspicions, but none are kept.
        """
        own = {name.removeprefix(SUSPICION): value for name, value in state.items() if name.startswith(SUSPICION)}
        if own and self.suspicion is None:
            raise ValueError("the state holds suspicions, but this strategy keeps none: give it suspicion=0.9.")
        if own and self.suspicion is not None:
            self.suspicion.load_state(own)
        return {name: value for name, value in state.items() if not name.startswith(SUSPICION)}


def _tell(on_report: OnReport, report: RoundReport) -> None:
    """Hand a report to the user's function; what it raises costs nothing but a line of the log."""
    try:
        on_report(report)
    except Exception as error:
        text = "on_report failed on the report of round %s and training goes on: %s: %s"
        log(WARNING, text, report.round, type(error).__name__, error, exc_info=True)


def append_whole(path: Path, data: bytes, *, keep: bool = True) -> None:
    """Append bytes to a file, all of them or none; only try to where they are not to be kept.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        # A terminal or a pipe has no end to go back to.
        regular = S_ISREG(os.fstat(file.fileno()).st_mode)
        end = file.seek(0, os.SEEK_END) if regular else 0
        if not keep and not regular:
            return
        written = False
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            written = keep
        finally:
            if regular and not written:
                file.truncate(end)


def _cut_incomplete(path: Path) -> None:
    """Cut off the last line of a file, if it does not end."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        complete = 0
        for line in file:
            complete += len(line) if line.endswith(b"\n") else 0
        file.truncate(complete)


def read_reports(path: str | Path) -> Iterator[RoundReport]:
    """Read the reports that a strategy wrote to its `report_path`; a last line that is not complete is left out.

    Raises
    ------
    ValueError
        If a line is no report; the text names file and line.
    """
    with Path(path).open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith("\n"):
                return
            try:
                yield RoundReport.from_dict(json.loads(text))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
