"""What a bench found, as data and as a table: medians, and ratios to FedAvg, to the fastest peer, to the limits."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from simulations.bench.cases import BYZFL, FLOWER, MATRIX, STRATEGY, Case, make_rule
from simulations.bench.limits import least_seconds, rates
from simulations.bench.measure import Bench, Result
from simulations.bench.memory import free_bytes
from simulations.bench.split import PARTS
from simulations.run.recorder import versions_of

PACKAGES = ("flwr-robust", "flwr", "numpy", "numba", "scikit-learn", "torch", "byzfl")


@dataclass(frozen=True)
class Row:
    """A case's numbers. Ratios are those of medians; None where one of the two is missing."""

    name: str
    group: str
    rule: str
    seconds: float | None
    repetitions: list[float]
    first: float | None
    to_fedavg: float | None
    peer: str | None
    """The fastest of other libraries' cases for the same rule; for a plain matrix, of ByzFL's."""
    to_peer: float | None
    limit: float | None
    """Seconds below which the rule cannot come on this machine (see `limits.least_seconds`)."""
    to_limit: float | None
    peak_bytes: int | None
    peak_share: float | None
    """Peak extra memory, the result included, as a share of the replies' own n * d * 4 bytes."""
    parts: dict[str, float]
    """Seconds of each part, from repetitions of their own."""
    difference: float | None
    skipped: str | None


def rows(bench: Bench) -> list[Row]:
    """Return the numbers so far, in the order of the cases."""
    limits = limit_medians(bench)
    fedavg = next(r.median for r in bench.results if (r.case.group, r.case.name) == (FLOWER, "FedAvg"))
    return [_row(result, bench, fedavg, limits) for result in bench.results]


def limit_medians(bench: Bench) -> dict[str, float]:
    """Return the median seconds of each limit, as far as they are measured."""
    return {name: median(seconds) for name, seconds in bench.limit_seconds.items() if seconds}


def _row(result: Result, bench: Bench, fedavg: float | None, limits: dict[str, float]) -> Row:
    case, seconds, problem = result.case, result.median, bench.problem
    peer = None if case.is_peer else _fastest(bench.results, case)
    if case.group != STRATEGY:
        # Only strategies work on the device.
        limits = {name: value for name, value in limits.items() if name != "copy"}
    limit = least_seconds(make_rule(case.rule, problem.f), problem.n, limits) if limits and not case.is_peer else None
    return Row(
        name=case.name,
        group=case.group,
        rule=case.rule,
        seconds=seconds,
        repetitions=result.seconds,
        first=result.first,
        to_fedavg=_ratio(seconds, fedavg),
        peer=None if peer is None else f"{peer.case.group} {peer.case.name}",
        to_peer=None if peer is None else _ratio(seconds, peer.median),
        limit=limit,
        to_limit=_ratio(seconds, limit),
        peak_bytes=result.peak_bytes,
        peak_share=_ratio(result.peak_bytes, problem.bytes),
        parts=result.parts,
        difference=result.difference,
        skipped=result.skipped,
    )


def _fastest(results: Iterable[Result], case: Case) -> Result | None:
    """Return the fastest other library's result for the same rule; for a plain matrix, of those that take one."""
    groups = (BYZFL,) if case.group == MATRIX else (FLOWER, BYZFL)
    peers = [r for r in results if r.seconds and r.case.group in groups and r.case.rule == case.rule]
    return min(peers, key=lambda r: median(r.seconds), default=None)


def _ratio(number: float | None, base: float | None) -> float | None:
    return None if number is None or not base else number / base


def as_json(bench: Bench, threads: int, preset: str) -> dict[str, Any]:
    """Return all that was found out, with what it was found out on."""
    problem, limits = bench.problem, limit_medians(bench)
    return {
        "problem": {
            "preset": preset,
            "n": problem.n,
            "d": problem.d,
            "f": problem.f,
            "layers": [[name, list(shape)] for name, shape in problem.layers],
            "repeats": bench.repeats,
            "peer_limit": bench.peer_limit,
        },
        "machine": {
            "cores": os.cpu_count(),
            "threads": threads,
            "processor": platform.machine(),
            "system": platform.system(),
            "free_bytes": free_bytes(),
            "device": device_shown(bench),
        },
        "versions": {"python": platform.python_version()} | versions_of(PACKAGES),
        "limits": {
            "seconds": limits,
            "repetitions": bench.limit_seconds,
            "rates": rates(limits, problem.n, problem.d) if limits else {},
        },
        "parts": list(PARTS),
        "cases": [asdict(row) for row in rows(bench)],
    }


def device_shown(bench: Bench) -> str | None:
    """Return what the strategies aggregated on through torch, if they did."""
    if bench.limits.device is None:
        return None
    from simulations.bench.device import describe

    return describe(bench.limits.device)


def strategies(found: Iterable[Row]) -> list[Row]:
    """Return the rows of our strategies."""
    return [row for row in found if row.group == STRATEGY]


# ---------------------------------------------------------------- the table

# From this width on, the table has the split of the time, the plain matrix, and the peer's name.
WIDE = 130
# Slowest over fastest repetition from which on the table warns.
UNSTEADY = 3
OURS_CAPTION = (
    "Medians of aggregate_train: as multiples of FedAvg, of the fastest of the others for the same rule, and of the "
    "machine's limit. Memory: the most on top of the replies, new model included, as a share of their bytes."
)
WIDE_CAPTION = (
    " Matrix: the rule on a plain matrix, and as a multiple of ByzFL's. Then the parts of aggregate_train's time."
)
PEERS_CAPTION = (
    "Flower's on the same messages; ByzFL's on a torch matrix that is there already, where its memory is not seen."
)
GROUPS = {"flower": "Flower", "byzfl": "ByzFL"}


def tables(bench: Bench, width: int) -> Group:
    """Return everything that is known so far, for a terminal of this width."""
    found = rows(bench)
    ours = _ours(strategies(found), {row.name: row for row in found if row.group == MATRIX}, wide=width >= WIDE)
    problem = bench.problem
    ours.title = f"n = {problem.n} replies of d = {problem.d:,} values, f = {problem.f}"
    shown: list[Table | Text] = [ours, _peers([row for row in found if row.group in GROUPS])]
    return Group(*shown, *_skipped(found), *_unsteady(found), *_limits(bench))


def _ours(found: Sequence[Row], matrices: dict[str, Row], *, wide: bool) -> Table:
    table = _table("Strategy", "seconds", "FedAvg", "peer", "limit", "memory")
    if wide:
        for heading in ("matrix", "ByzFL", *PARTS):
            table.add_column(heading, justify="right")
        table.add_column("fastest peer", no_wrap=True)
    for row in found:
        cells = [row.name, _seconds(row.seconds), *map(_times, (row.to_fedavg, row.to_peer, row.to_limit))]
        cells.append(_percent(row.peak_share))
        if wide:
            matrix = matrices.get(row.name)
            total = sum(row.parts.values())
            cells += [_seconds(matrix.seconds), _times(matrix.to_peer)] if matrix else ["", ""]
            cells += [_percent(row.parts[part] / total) if total else "" for part in PARTS]
            cells.append(_peer_name(row.peer))
        table.add_row(*(["skipped" if row.skipped and at == 1 else cell for at, cell in enumerate(cells)]))
    table.caption = OURS_CAPTION + (WIDE_CAPTION if wide else "")
    return table


def _peers(found: Sequence[Row]) -> Table:
    table = _table("Others", "seconds", "FedAvg", "memory")
    for row in found:
        seconds = "skipped" if row.skipped else _seconds(row.seconds)
        name = row.name if row.group == "flower" else row.rule
        table.add_row(f"{GROUPS[row.group]} {name}", seconds, _times(row.to_fedavg), _percent(row.peak_share))
    table.caption = PEERS_CAPTION
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _skipped(found: Sequence[Row]) -> list[Text]:
    lines = []
    for row in found:
        if row.skipped:
            group = GROUPS.get(row.group, "Matrix" if row.group == MATRIX else "")
            lines.append(Text(f"{group} {row.name} is skipped: {row.skipped}".strip(), style="yellow"))
    return lines


def _unsteady(found: Sequence[Row]) -> list[Text]:
    names = [f"{GROUPS.get(row.group, '')} {row.name}".strip() for row in found if _spread(row) > UNSTEADY]
    if not names:
        return []
    text = f"Repetitions differ by more than {UNSTEADY} times, as when others use this machine: {', '.join(names)}."
    return [Text(text, style="yellow")]


def _spread(row: Row) -> float:
    return max(row.repetitions) / min(row.repetitions) if row.repetitions else 1.0


def _limits(bench: Bench) -> list[Text]:
    seconds = limit_medians(bench)
    if not seconds:
        return []
    found = rates(seconds, bench.problem.n, bench.problem.d)
    lines = [
        Text(
            f"This machine, {bench.limits.threads} threads: reading all replies once and writing one model takes "
            f"{_seconds(seconds['read'])} s ({found['bytes_per_second'] / 1e9:.1f} GB/s), their float32 Gram matrix "
            f"{_seconds(seconds['gram'])} s ({found['gram_flops'] / 1e9:.0f} GFLOP/s)."
        )
    ]
    if "copy" in seconds:
        copied = f"{_seconds(seconds['copy'])} s ({found['copied_bytes_per_second'] / 1e9:.1f} GB/s)"
        text = f"Strategies ran on {device_shown(bench)}; copying all replies there takes {copied}."
        lines.append(Text(f"{text} Their memory is the CPU's alone; plain matrices stayed there."))
    return lines


def _peer_name(peer: str | None) -> str:
    if peer is None:
        return ""
    group, _, name = peer.partition(" ")
    return f"{GROUPS[group]} {name}" if group == "flower" else GROUPS[group]


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if value < 1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _times(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%" if share < 0.0995 else f"{100 * share:.0f}%"
