"""What became of each node in each round of a run, and how many of the malicious updates were caught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flwr_robust.record.report import NodeReport, RoundReport, read_reports


class Fate(IntEnum):
    """What became of a node in a round."""

    NOT_SELECTED = 0
    USED = 1
    CLIPPED = 2
    PARTLY_USED = 3  # in some layers only
    ZERO_WEIGHT = 4
    QUARANTINED = 5
    EXCLUDED = 6  # not selected because of its suspicion
    SKIPPED = 7  # usable, but the round was skipped
    NO_REPLY = 8  # selected, but no reply came in time


class ReportError(ValueError):
    """A file or folder that holds no run; the text says which, and what is expected."""


@dataclass(frozen=True)
class Node:
    """A node of a run.

    Attributes
    ----------
    node_id : int
        Flower's number for it, drawn afresh in each run.
    partition : int or None
        Its partition id, where it is known.
    malicious : bool or None
        None where it is not known.
    """

    node_id: int
    partition: int | None = None
    malicious: bool | None = None

    @property
    def label(self) -> str:
        """Partition id, or else the first digits of the node id."""
        text = str(self.node_id)
        return str(self.partition) if self.partition is not None else text if len(text) <= 8 else f"{text[:7]}…"


@dataclass(frozen=True)
class Rates:
    """How many updates a run left out, of the malicious and of the honest ones.

    LASA (section 7, Figure 1) plots a true and a false positive rate for each round: of the malicious updates
    the share that is identified as such, and of the benign ones the share that is misidentified as malicious.
    It gives no formula, and its published code computes neither. Here an update counts as identified where it
    was quarantined or got the weight zero, or its node was excluded. Where a rule decides layer by layer, as LASA
    does, an update counts for the share of the layers that it was left out of. Over rounds the updates of all
    rounds are counted together, which is the mean of the rounds' rates where each has as many. In skipped
    rounds only the quarantined updates count.

    Attributes
    ----------
    tpr : float or None
        The true positive rate; None without malicious updates.
    fpr : float or None
        The false positive rate; None without updates that are known to be honest.
    """

    tpr: float | None
    fpr: float | None


@dataclass(frozen=True)
class RunFates:
    """The fates of a run.

    Attributes
    ----------
    name : str
        What the run is called.
    path : Path
        The file that it was read from.
    chain : str
        The rule or chain.
    rounds : tuple of int
        Training rounds.
    skipped : tuple of int
        Those of them that were skipped.
    nodes : tuple of Node
        Honest ones by partition, then malicious ones, then those that nothing is known of.
    fates : (nodes, rounds) array of Fate
    left_out : (nodes, rounds) float64 array
        1 where a node was quarantined, excluded or got the weight zero, 0 where its update was used, between them
        where it was used in some layers only; NaN where nothing was decided.
    has_weights : bool
        Whether the rule chooses among updates; rules that work coordinate by coordinate do not.
    """

    name: str
    path: Path
    chain: str
    rounds: tuple[int, ...]
    skipped: tuple[int, ...]
    nodes: tuple[Node, ...]
    fates: NDArray[np.int8]
    left_out: NDArray[np.float64]
    has_weights: bool

    @property
    def quarantined(self) -> tuple[Node, ...]:
        """Nodes that were quarantined at least once."""
        found = (self.fates == Fate.QUARANTINED).any(axis=1)
        return tuple(node for node, hit in zip(self.nodes, found, strict=True) if hit)

    @property
    def rates(self) -> Rates:
        """The rates over all rounds."""
        return self._rates(self.left_out)

    def rates_in(self, server_round: int) -> Rates:
        """Return the rates in one round."""
        return self._rates(self.left_out[:, [self.rounds.index(server_round)]])

    def _rates(self, left_out: NDArray[np.float64]) -> Rates:
        malicious = [node.malicious is True for node in self.nodes]
        honest = [node.malicious is False for node in self.nodes]
        return Rates(_mean(left_out[malicious]), _mean(left_out[honest]))


def read_runs(path: Path, known: Mapping[int, Node] | None = None) -> list[RunFates]:
    """Read the runs of a strategy's `report_path`, which several runs may have written to in turn.

    Parameters
    ----------
    path : Path
        The file.
    known : mapping of int to Node, optional
        What is known of the nodes, by node id.

    Raises
    ------
    ReportError
        If the file cannot be read or holds no complete round.
    """
    try:
        runs = list(_split(read_reports(path)))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {error}.") from error
    if not runs:
        raise ReportError(f"{path} holds no complete round yet.")
    names = [path.stem, *(f"{path.stem}-{number}" for number in range(2, len(runs) + 1))]
    return [make_fates(reports, path, name, known) for name, reports in zip(names, runs, strict=True)]


def make_fates(
    reports: Sequence[RoundReport], path: Path, name: str, known: Mapping[int, Node] | None = None
) -> RunFates:
    """Arrange the reports of a run.

    Parameters
    ----------
    reports : sequence of RoundReport
        At least one.
    path, name : Path, str
        Where they are from, and what the run is called.
    known : mapping of int to Node, optional
        What is known of the nodes; by default nothing.
    """
    known = known or {}
    seen = {node_id for report in reports for node_id in (*report.nodes, *report.excluded, *report.unanswered)}
    nodes = sorted((known.get(node_id, Node(node_id)) for node_id in seen | known.keys()), key=_order)
    row = {node.node_id: place for place, node in enumerate(nodes)}
    fates = np.zeros((len(nodes), len(reports)), dtype=np.int8)
    left_out = np.full(fates.shape, np.nan)
    for column, report in enumerate(reports):
        for node_id, node in report.nodes.items():
            fates[row[node_id], column] = fate_of(node, skipped=report.skipped is not None)
        for node_id, share in report.left_out().items():
            left_out[row[node_id], column] = share
        fates[[row[node_id] for node_id in report.unanswered], column] = Fate.NO_REPLY
        excluded = [row[node_id] for node_id in report.excluded]
        fates[excluded, column], left_out[excluded, column] = Fate.EXCLUDED, 1.0
    return RunFates(
        name=name,
        path=path,
        chain=reports[-1].chain,
        rounds=tuple(report.round for report in reports),
        skipped=tuple(report.round for report in reports if report.skipped is not None),
        nodes=tuple(nodes),
        fates=fates,
        left_out=left_out,
        has_weights=any(node.is_judged for report in reports for node in report.nodes.values()),
    )


def fate_of(node: NodeReport, *, skipped: bool = False) -> Fate:
    """Return what became of a node that replied."""
    if not node.accepted:
        return Fate.QUARANTINED
    if skipped:
        return Fate.SKIPPED
    if node.left_out:
        return Fate.ZERO_WEIGHT if node.left_out == 1.0 else Fate.PARTLY_USED
    return Fate.CLIPPED if node.clip_factor is not None and node.clip_factor < 1.0 else Fate.USED


def _order(node: Node) -> tuple[int, int, int]:
    group = {False: 0, True: 1, None: 2}[node.malicious]
    return group, -1 if node.partition is None else node.partition, node.node_id


def _mean(left_out: NDArray[np.float64]) -> float | None:
    decided = left_out[~np.isnan(left_out)]
    return float(decided.mean()) if decided.size else None


def _split(reports: Iterable[RoundReport]) -> Iterator[list[RoundReport]]:
    """Yield the reports of each run: another one begins where the round number does not rise."""
    run: list[RoundReport] = []
    for report in reports:
        if run and report.round <= run[-1].round:
            yield run
            run = []
        run.append(report)
    if run:
        yield run
