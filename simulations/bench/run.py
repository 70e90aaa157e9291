"""Run a bench: presets, progress, the table, and the files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from threadpoolctl import threadpool_limits

from flwr_robust.engine.choose import device_for
from flwr_robust.engine.cpu import default_threads
from simulations.bench.cases import all_cases, quiet
from simulations.bench.growth import GrowthBench
from simulations.bench.measure import Bench
from simulations.bench.memory import free_bytes, shown
from simulations.bench.messages import Problem
from simulations.bench.plot import plot_costs, plot_growth
from simulations.bench.presets import PRESETS
from simulations.bench.report import as_json, rows, tables

FILE = "bench.json"
THREADS_VARIABLE = "FLWR_ROBUST_THREADS"


class BenchError(ValueError):
    """Why nothing can be measured."""


@dataclass(frozen=True)
class Options:
    """The options of ``flwr-robust bench``, whose help explains them."""

    preset: str = "small"
    n: int | None = None
    d: int | None = None
    f: int | None = None
    repeats: int = 5
    only: Sequence[str] | None = None
    skip_peers: bool = False
    skip_matrices: bool = False
    simulated_round: bool = False
    growth: bool = False
    peer_limit: float = 60.0
    threads: int | None = None
    device: str | None = None
    largest_n: int = 1000
    largest_d: int = 100_000_000
    out: Path = Path("results")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The n, d and f to measure at."""
        preset_n, preset_d, preset_f = PRESETS[self.preset]
        n = preset_n if self.n is None else self.n
        d = preset_d if self.d is None else self.d
        f = preset_f if self.f is None else self.f
        if 2 * f >= n:
            raise BenchError(f"no rule stands f = {f} malicious nodes of n = {n}: give an f below n / 2.")
        return n, d, f


def run_bench(options: Options, console: Console) -> dict[str, Any]:
    """Measure, show a table, and write ``bench.json``, ``bench.png`` and, with growth, ``growth.png``.

    Raises
    ------
    BenchError
        If there is no such case or device, the replies do not fit into memory, or data for a simulation are missing.
    SessionError
        If the simulation ends early.
    """
    n, d, f = options.sizes
    try:
        device = None if options.device is None else device_for(options.device, "the bench").name
        cases = all_cases(
            options.only or (), peers=not options.skip_peers, matrices=not options.skip_matrices, device=device
        )
        if options.simulated_round:
            from simulations.bench.simulated import require_data  # needs torch

            require_data()
    except ValueError as error:
        raise BenchError(str(error)) from error
    _require_memory(n, d)
    with _using_threads(options.threads) as threads:
        with quiet():
            bench = Bench(Problem(n, d, f), cases, threads, options.repeats, options.peer_limit, device)
            _follow(bench, console, "bench")
        console.print(tables(bench, console.width))
        preset = options.preset if (n, d, f) == PRESETS[options.preset] else "none"
        found = as_json(bench, threads, preset)
        _write(found, options.out)
        where = "" if device is None else f", through torch on {device}"
        title = f"n = {n} replies, d = {d:,}, f = {f}, {threads} threads{where}"
        _name_picture(plot_costs(rows(bench), options.out / "bench.png", title), console)
        if options.simulated_round:
            from simulations.bench.simulated import measure_round

            simulated = measure_round(options.out, console)
            console.print(str(simulated))
            found["simulated_round"] = simulated.as_json()
            _write(found, options.out)
        if options.growth:
            _grow(options, found, console)
    console.print(f"Numbers: {options.out / FILE}", soft_wrap=True)
    return found


def _grow(options: Options, found: dict[str, Any], console: Console) -> None:
    """Measure growth; each point is in the file at once, and what there is in the picture even if this is stopped."""
    growth = GrowthBench(min(3, options.repeats), options.largest_n, options.largest_d, options.peer_limit)

    def keep() -> None:
        found["growth"] = growth.as_json()
        _write(found, options.out)

    try:
        _follow(growth, console, "growth", keep)
    finally:
        keep()
        for result in growth.results:
            if result.ended is not None:
                console.print(f"Growth of {result.chain} with {result.variable} ends: {result.ended}", style="yellow")
        _name_picture(plot_growth(growth.results, options.out / "growth.png"), console)


def _write(found: dict[str, Any], folder: Path) -> None:
    """Write the numbers so that a reader finds all of an earlier or of this version."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{FILE}.part"
    written.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    written.replace(folder / FILE)


def _name_picture(path: Path, console: Console) -> None:
    console.print(f"Picture: {path}", soft_wrap=True)


def _require_memory(n: int, d: int) -> None:
    """Refuse what cannot work: the replies, and a model or two while they are made."""
    needed, free = 4 * (n + 6) * d, free_bytes()
    if free is not None and needed > free:
        raise BenchError(
            f"{n} replies of {d:,} values take {shown(needed)} of memory, and {shown(free)} are free: "
            "give a smaller n or d."
        )


def _follow(
    bench: Bench | GrowthBench, console: Console, title: str, after_each: Callable[[], None] | None = None
) -> None:
    """Run to the end under a progress bar, which is drawn between measurements and never during one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task(title, total=bench.steps)
        for done in bench.run():
            progress.update(task, advance=1, description=done, refresh=True)
            if after_each is not None:
                after_each()


@contextmanager
def _using_threads(threads: int | None) -> Iterator[int]:
    """Have everything use this number of threads, by default what each chooses, and yield the number."""
    if threads is None:
        yield default_threads()
        return
    with patch.dict(os.environ, {THREADS_VARIABLE: str(threads)}), threadpool_limits(threads):
        yield threads
