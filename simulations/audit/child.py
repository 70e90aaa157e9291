"""The child process of an audit: it runs the app once for each pair, on Flower's Ray engine, with the same nodes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from flwr.superlink.grid import InMemoryGrid

from clients import Adversary
from flwr_robust.rules import parse_args
from simulations.audit.client import AuditedClientApp, seed_all
from simulations.audit.grids import Curves, Defence, Defended, Gathering, Recording, Telling
from simulations.audit.loading import forget, load
from simulations.audit.plan import NONE, make_attack, make_defense, poisons, split
from simulations.audit.watching import Watch
from simulations.engine.child import PULL_INTERVAL, quiet
from simulations.run.ordered_grid import OrderedGrid
from simulations.run.runner import learn_partitions, wait_for_nodes

Settings = Mapping[str, Any]
Event = dict[str, Any]


class Events:
    """A file of JSON lines: what goes on, and what came of each pair."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, **event: Any) -> None:
        """Write a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, allow_nan=False) + "\n")


def main() -> None:
    """Do the pairs that standard input describes, in one line."""
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    events = Events(Path(settings["events"]))
    quiet("WARNING")
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        if isinstance(grid, InMemoryGrid):
            grid.pull_interval = PULL_INTERVAL
        serve_pairs(grid, context, settings, events)

    client_app = AuditedClientApp(settings["folder"], settings["client"], settings["config"])
    try:
        run_simulation(
            server_app,
            client_app,
            settings["nodes"],
            backend_config={
                "client_resources": {"num_cpus": settings["num_cpus"], "num_gpus": settings["num_gpus"]},
                "init_args": {"include_dashboard": False},
            },
        )
    except Exception:
        traceback.print_exc()
        os._exit(1)


def _end_with_parent() -> None:
    """End all when standard input does: the parent has died or wants no more."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as lines:
        lines.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def serve_pairs(grid: Grid, context: Context, settings: Settings, events: Events) -> None:
    """Run the app once for each pair."""
    partition_of = learn_partitions(grid, wait_for_nodes(grid, settings["nodes"]))
    os.chdir(settings["folder"])
    events.tell(state="loading the app")
    load(settings["server"], ServerApp, settings["folder"])  # what it imports is then there to be seeded
    for pair in settings["pairs"]:
        events.tell(**_run_pair(grid, context, settings, pair, partition_of, events))


def _run_pair(
    grid: Grid, context: Context, settings: Settings, pair: Mapping[str, str], partition_of: dict[int, int],
    events: Events,
) -> Event:  # fmt: skip
    """Run the app under one attack with one defence, and return what came of it."""
    key, begin = pair["key"], time.perf_counter()

    def show(server_round: int) -> None:
        events.tell(key=key, round=server_round, num_rounds=curves.num_rounds)

    curves = Curves(show)
    malicious = [node for node, partition in partition_of.items() if partition in settings["malicious"]]
    defence = None
    error = None
    print(f"Run: attack {pair['attack']}, defence {pair['defense']}", flush=True)
    try:
        if pair["defense"] != NONE:
            rule = make_defense(pair["defense"], settings["f"], settings["seed"])
            defence = Defence(rule, settings["f"])
        stack = stacked(OrderedGrid(grid, partition_of), settings, pair, malicious, defence, curves)
        seed_all(str(settings["seed"]))
        forget(settings["folder"])
        app = load(settings["server"], ServerApp, settings["folder"])
        seed_all(str(settings["seed"]))
        own = Context(context.run_id, context.node_id, context.node_config, RecordDict(), dict(settings["config"]))
        with Watch(curves, stack, settings["nodes"], settings["rounds"]).on():
            app(stack, own)
    except Exception as failure:
        traceback.print_exc()
        error = f"{type(failure).__name__}: {failure}"
    return {
        "key": key,
        "end": {
            "attack": pair["attack"],
            "defense": pair["defense"],
            "seed": settings["seed"],
            "metrics": curves.last(),
            "curves": curves.named(),
            "strategy": curves.strategy,
            "num_rounds": curves.num_rounds,
            "malicious": sorted(settings["malicious"]) if pair["attack"] != NONE else [],
            "aggregation_s": sum(defence.seconds) / len(defence.seconds) if defence and defence.seconds else None,
            "wall_s": time.perf_counter() - begin,
            **(caught(defence, set(malicious), pair["attack"] != NONE) if defence else {}),
            "node_error": curves.failure,
            "error": error,
        },
    }


def stacked(
    nodes: Grid, settings: Settings, pair: Mapping[str, str], malicious: list[int], defence: Defence | None,
    curves: Curves,
) -> Gathering:  # fmt: skip
    """Return the grid that the app gets: all that stands between it and its nodes."""
    attack = pair["attack"]
    poisoned: dict[int, dict[str, Any]] = {}
    if attack != NONE and poisons(attack):
        (component,) = split(attack)
        given = {"seed": settings["seed"], **parse_args(component.arguments)}
        poisoned = {node: {"name": component.name, "args": given} for node in malicious}
    grid: Grid = Telling(nodes, pair["key"], settings["seed"], poisoned)
    if attack != NONE and not poisoned:
        made = make_attack(attack, settings["seed"])
        grid = Adversary(grid, made, malicious, strategy=defence, seed=settings["seed"])
    if defence is not None:
        grid = Defended(grid, defence)
    return Gathering(Recording(grid, curves))


def caught(defence: Defence, malicious: set[int], attacked: bool) -> Event:
    """Return which shares of the malicious and of the honest updates a rule left out.

    Where it left out nobody's in any round it does not choose among nodes, and there is nothing to tell.
    """
    liars: list[float] = []
    honest: list[float] = []
    for report in defence.reports:
        for node, left_out in report.left_out().items():
            (liars if attacked and node in malicious else honest).append(left_out)
    chooses = any(liars) or any(honest)
    return {
        "caught": sum(liars) / len(liars) if liars and chooses else None,
        "honest_left_out": sum(honest) / len(honest) if honest and chooses else None,
        "skipped": sum(report.skipped is not None for report in defence.reports),
        "skipped_because": next((report.skipped for report in defence.reports if report.skipped), None),
    }


if __name__ == "__main__":
    main()
