"""`flwr-robust watch`: a strategy's `report_path`, followed while the federation runs."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from time import sleep

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flwr_robust.record.fates import ReportError
from flwr_robust.record.report import NodeReport, RoundReport
from flwr_robust.record.suspicion import Suspicion

# Rounds and nodes that are shown, and the rounds that means are taken over.
ROUNDS, NODES, LATELY = 12, 10, 10
DECAY = 0.9


def follow(path: Path, wait: Callable[[], bool]) -> Iterator[RoundReport | None]:
    """Yield the reports of a file as they come, and None where there is no more for the moment.

    Parameters
    ----------
    path : Path
        The file, which need not exist yet. Where it becomes shorter, it is read again from its beginning.
    wait : callable
        Called where there is no more; ends it by returning False.

    Raises
    ------
    ReportError
        If a line is no report; the text names it.
    """
    place, number, rest = 0, 0, b""
    while True:
        if path.is_file():
            if path.stat().st_size < place:
                place, number, rest = 0, 0, b""
            with path.open("rb") as file:
                file.seek(place)
                for piece in file:
                    place, rest = place + len(piece), rest + piece
                    if rest.endswith(b"\n"):
                        number += 1
                        yield _read(path, number, rest)
                        rest = b""
        yield None
        if not wait():
            return


def _read(path: Path, number: int, line: bytes) -> RoundReport:
    try:
        return RoundReport.from_dict(json.loads(line))
    except ValueError as error:
        raise ReportError(f"{path}, line {number}, is no report of a round: {error}.") from error


@dataclass
class Watched:
    """What has been seen so far: of the rounds the last ones, of each node what it has come to."""

    rounds: deque[RoundReport] = field(default_factory=lambda: deque(maxlen=ROUNDS))
    suspicion: Suspicion = field(default_factory=lambda: Suspicion(DECAY))
    quarantined: Counter[int] = field(default_factory=Counter)
    lately: dict[int, deque[NodeReport]] = field(default_factory=dict)

    def add(self, report: RoundReport) -> None:
        """Take in a round; where round numbers begin again, so does all that was seen."""
        if self.rounds and report.round <= self.rounds[-1].round:
            self.__init__()  # type: ignore[misc]
        self.rounds.append(report)
        self.suspicion.update(report.left_out())
        for node_id, node in report.nodes.items():
            self.quarantined[node_id] += not node.accepted
            self.lately.setdefault(node_id, deque(maxlen=LATELY)).append(node)

    def mean(self, node_id: int, what: str) -> float | None:
        """Return the mean of a node's numbers of this name, over its last rounds; None without any."""
        found = [value for node in self.lately.get(node_id, ()) if (value := getattr(node, what)) is not None]
        return fmean(found) if found else None

    def suspects(self) -> list[int]:
        """Return the nodes, the most suspicious first: most often left out, then least weight, then farthest."""

        def key(node_id: int) -> tuple[float, float, float]:
            weight, distance = self.mean(node_id, "weight"), self.mean(node_id, "distance")
            return -self.suspicion.values.get(node_id, 0.0), 1.0 if weight is None else weight, -(distance or 0.0)

        return sorted(self.lately, key=key)


def watch(path: Path, console: Console, *, once: bool = False, pause: float = 1.0) -> None:
    """Show a report as it grows: a live table in a terminal, a line a round elsewhere.

    Parameters
    ----------
    path : Path
        A strategy's `report_path`.
    console : Console
        Where to.
    once : bool
        Whether to end where the file does.
    pause : float
        Seconds between two looks.

    Raises
    ------
    ReportError
        If a line is no report.
    """

    def wait() -> bool:
        if not once:
            sleep(pause)
        return not once

    watched = Watched()
    if not console.is_terminal:
        for report in follow(path, wait):
            if report is not None:
                watched.add(report)
                console.print(_line(report, watched), markup=False, highlight=False, soft_wrap=True)
        return
    with Live(_shown(path, watched), console=console, auto_refresh=False) as live:
        for report in follow(path, wait):
            if report is None:
                live.update(_shown(path, watched), refresh=True)
            else:
                watched.add(report)


def _line(report: RoundReport, watched: Watched) -> str:
    counts = ("used", "quarantined")
    cells = [f"{text} {name}" if name in counts else f"{name} {text}" for name, text in _cells(report).items()]
    worst = watched.suspects()[:3]
    found = [f"suspects {', '.join(f'{node} ({watched.suspicion.values.get(node, 0.0):.2f})' for node in worst)}"]
    skipped = [] if report.skipped is None else [f"skipped: {report.skipped}"]
    return f"round {report.round}: " + "; ".join([*cells, *(found if worst else []), *skipped])


def _cells(report: RoundReport) -> dict[str, str]:
    """Return a round in words, by what each is called."""
    used = [node for node in report.nodes.values() if node.accepted]
    weights = [node.weight for node in used if node.weight is not None]
    cells = {
        "used": str(len(used)),
        "quarantined": str(len(report.quarantined)),
        "threshold": _number(report.threshold),
        "weights": f"{min(weights):.3f} to {max(weights):.3f}" if weights else "-",
    }
    if report.candidates:
        told = (
            f"{name} {'failed' if c.failed else 'cos ' + _number(c.cosine)}" for name, c in report.candidates.items()
        )
        cells["candidates"] = ", ".join(told)
    return cells


def _shown(path: Path, watched: Watched) -> Group | Text:
    if not watched.rounds:
        return Text(f"Waiting for the first round in {path} ...")
    rounds = Table("round", *_cells(watched.rounds[-1]), "skipped", title=Text(watched.rounds[-1].chain))
    for report in watched.rounds:
        cells = _cells(report)
        names = list(_cells(watched.rounds[-1]))
        rounds.add_row(*map(Text, (str(report.round), *(cells.get(n, "-") for n in names), report.skipped or "")))
    title = Text(f"most suspicious of {len(watched.lately)} nodes (means of their last {LATELY} rounds)")
    nodes = Table("node", "left out lately", "weight", "distance", "cosine", "quarantined", title=title)
    for node in watched.suspects()[:NODES]:
        means = (_number(watched.mean(node, what)) for what in ("weight", "distance", "cosine"))
        left_out = f"{watched.suspicion.values.get(node, 0.0):.2f}"
        nodes.add_row(*map(Text, (str(node), left_out, *means, f"{watched.quarantined[node]} x")))
    return Group(rounds, nodes)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
