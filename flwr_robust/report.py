"""What happened to each node in each round, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from flwr_robust.rules.base import Trace


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
        Weight of its update in the aggregate; None where it differs between coordinates.
    norm : float or None
        Euclidean norm of its update.
    clip_factor : float or None
        What its update was multiplied by; None where nothing clips.
    used : float or None
        Share of the model's layers in which its update counted, where the rule filters rows or layers without
        giving each row one weight (LASA, Bulyan); None elsewhere.
    """

    status: str
    reason: str | None = None
    weight: float | None = None
    norm: float | None = None
    clip_factor: float | None = None
    used: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether its update came as far as the rule."""
        return self.status == "accepted"

    @property
    def left_out(self) -> float:
        """1 if it was quarantined or has the weight zero, 0 if it counted; between them: in some layers only."""
        if not self.accepted:
            return 1.0
        if self.used is not None:
            return 1.0 - self.used
        return float(self.weight == 0.0)


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
            return cls(**{**values, "nodes": nodes, "extra": extra})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this is no report of a round: {type(error).__name__}: {error}") from error

    def left_out(self) -> dict[int, float]:
        """Return `NodeReport.left_out` of each node whose fate this round settled.

        In a skipped round these are the quarantined nodes: no weight says anything of the others.
        """
        return {
            node_id: node.left_out for node_id, node in self.nodes.items() if self.skipped is None or not node.accepted
        }

    def add_unused(self, node_ids: list[int]) -> None:
        """Record nodes with usable replies in a round that is skipped."""
        self.nodes |= {node_id: NodeReport("accepted") for node_id in node_ids}

    def add_quarantined(self, quarantined: list[tuple[int, str]]) -> None:
        """Record nodes and the reasons why their replies were not used."""
        for node_id, reason in quarantined:
            if node_id in self.nodes:
                self.extra.append((node_id, reason))
            else:
                self.nodes[node_id] = NodeReport("quarantined", reason)

    def add_accepted(
        self,
        node_ids: list[int],
        norms: np.ndarray | None,
        weights: np.ndarray | None,
        trace: Trace,
        used: np.ndarray | None = None,
    ) -> None:
        """Record nodes whose updates were aggregated, row by row."""
        clipped = trace.clip_factors
        if clipped is not None and len(clipped) != len(node_ids):
            clipped = None
        for row, node_id in enumerate(node_ids):
            self.nodes[node_id] = NodeReport(
                "accepted",
                weight=None if weights is None else float(weights[row]),
                norm=None if norms is None else float(norms[row]),
                clip_factor=None if clipped is None else float(clipped[row]),
                used=None if used is None else float(used[row]),
            )
        self.threshold, self.drawn, self.rule_drawn = trace.threshold, trace.drawn, trace.rule_drawn

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
        if any(node.weight is not None or node.used is not None for node in accepted):
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
        """Append the report to a file, as one line of JSON."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.to_dict(), allow_nan=False) + "\n")


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
