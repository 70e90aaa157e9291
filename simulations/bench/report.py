"""What a bench found, as plain data: medians and their ratios to FedAvg, to the fastest peer, to the limits."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from simulations.bench.cases import BYZFL, FLOWER, MATRIX, STRATEGY, Case, make_rule
from simulations.bench.limits import least_seconds, rates
from simulations.bench.measure import Bench, Result
from simulations.bench.memory import free_bytes
from simulations.bench.split import PARTS

PACKAGES = ("flwr-robust", "flwr", "numpy", "numba", "scikit-learn", "torch", "byzfl")


@dataclass(frozen=True)
class Row:
    """A case's numbers. Ratios are those of medians; None where one of the two is missing.

    Attributes
    ----------
    peer : str or None
        The fastest of other libraries' cases for the same rule; for a plain matrix, of ByzFL's.
    limit : float or None
        Seconds below which the rule cannot come on this machine (see `limits.least_seconds`).
    peak_share : float or None
        Peak extra memory, the result included, as a share of the replies' own n * d * 4 bytes.
    parts : dict of str to float
        Seconds of each part, from repetitions of their own.
    """

    name: str
    group: str
    rule: str
    seconds: float | None
    repetitions: list[float]
    first: float | None
    to_fedavg: float | None
    peer: str | None
    to_peer: float | None
    limit: float | None
    to_limit: float | None
    peak_bytes: int | None
    peak_share: float | None
    parts: dict[str, float]
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
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
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


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def strategies(found: Iterable[Row]) -> list[Row]:
    """Return the rows of our strategies."""
    return [row for row in found if row.group == STRATEGY]
