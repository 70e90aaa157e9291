"""``flwr-robust audit``: all pairs in one session, with progress; results that outlive a kill; table, page, advice."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from simulations.audit.page import write_page
from simulations.audit.plan import NONE, Pair, Plan, waiting
from simulations.audit.project import AuditError
from simulations.audit.summary import Line, Summary, advice, require_metric, table
from simulations.engine.progress import POLL_INTERVAL
from simulations.engine.session import Child, Resources
from simulations.wording import count

RESULTS, LOG, PAGE = "results.jsonl", "session.log", "index.html"


def run_audit(plan: Plan, out: Path, resources: Resources, console: Console, lower_is_better: bool | None) -> Summary:
    """Run what is not done yet, and show and write what came out.

    Raises
    ------
    AuditError
        If the simulation ends early, or the app does not report the metric.
    """
    out = out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    _announce(plan, console)
    lines = {line["key"]: line for line in read_results(out / RESULTS)}
    chosen = {pair.key for pair in plan.pairs}
    done = [key for key, line in lines.items() if key in chosen and line["error"] is None]
    left = waiting(plan.pairs, done)
    if done:
        console.print(f"{len(done)} of {count(len(plan.pairs), 'run')} are done already.", highlight=False)
    if left:
        for line in _run(plan, left, out, resources, console):
            lines[line["key"]] = line
            if line["error"] is None:
                require_metric(line["metrics"], plan.options.metric, line["node_error"])
    found = [lines[pair.key] for pair in plan.pairs if pair.key in lines]
    summary = Summary(plan, found, lower_is_better)
    console.print(table(summary))
    for note in summary.notes():
        console.print(note, soft_wrap=True, highlight=False, markup=False)
    text = advice(summary)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    write_page(summary, text, out / PAGE)
    console.print(f"Page: {out / PAGE}", soft_wrap=True, highlight=False)
    return summary


def _announce(plan: Plan, console: Console) -> None:
    options = plan.options
    rounds = "the app's own rounds" if options.rounds is None else count(options.rounds, "round")
    console.print(
        f"{plan.project.name}: {options.nodes} nodes, {options.malicious} of them malicious, {rounds}; "
        f"{count(len(plan.pairs), 'run')}.",
        highlight=False,
    )
    for sentence in plan.left_out:
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)


def read_results(path: Path) -> list[Line]:
    """Return the lines of a file; half a line at its end, left by an audit that was killed, is none.

    Raises
    ------
    AuditError
        If another line is no result.
    """
    if not path.exists():
        return []
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    found = []
    for number, line in enumerate(lines, start=1):
        record = None
        with suppress(ValueError):
            record = json.loads(line)
        if not isinstance(record, dict) or not record.keys() >= {"key", "attack", "defense", "metrics", "error"}:
            raise AuditError(f"line {number} of {path} is no result of an audit; remove it, or give another --out.")
        found.append(record)
    return found


def _run(plan: Plan, left: Sequence[Pair], out: Path, resources: Resources, console: Console) -> Iterator[Line]:
    """Run pairs in a session, write each one's line as it ends, and yield it."""
    log_path = out / LOG
    log_path.unlink(missing_ok=True)
    by_key = {pair.key: pair for pair in left}
    with tempfile.TemporaryDirectory(prefix="flwr-robust-audit-") as folder, _Bars(console, left) as bars:
        bars.say("copying the project")
        copy = plan.project.copy_to(Path(folder), out)
        events = Path(folder) / "events.jsonl"
        bars.say("starting Ray, which takes a while")
        with Child("simulations.audit.child", log_path, resources) as child:
            child.send(_settings(plan, left, copy, events) | asdict(resources))
            for event in _events(child, events):
                if "state" in event:
                    bars.say(event["state"])
                elif "end" in event:
                    line = {"key": event["key"], **_described(plan), **event["end"]}
                    with (out / RESULTS).open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line, allow_nan=False) + "\n")
                    bars.done(by_key.pop(event["key"]), line)
                    yield line
                    if not by_key:
                        return
                else:
                    bars.show(by_key[event["key"]], event["round"], event["num_rounds"])
            raise AuditError(
                f"the simulation ended early with status {child.poll()}; the end of its log, {log_path}, says:\n"
                f"{child.log_tail()}"
            )


def _settings(plan: Plan, left: Sequence[Pair], copy: Path, events: Path) -> dict[str, Any]:
    return {
        "folder": str(copy),
        "events": str(events),
        "server": plan.project.server,
        "client": plan.project.client,
        "config": plan.config,
        "nodes": plan.options.nodes,
        "rounds": plan.options.rounds,
        "f": plan.options.malicious,
        "malicious": plan.malicious,
        "seed": plan.options.seed,
        "pairs": [asdict(pair) for pair in left],
    }


def _described(plan: Plan) -> dict[str, Any]:
    return {"project": plan.project.name, "nodes": plan.options.nodes, "run_config": plan.config}


def _events(child: Child, path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the child tells, until it ends."""
    place = 0
    while True:
        status = child.poll()  # before reading: what is written before the end is then read
        if path.exists():
            with path.open("rb") as file:
                file.seek(place)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            place += len(whole)
            yield from map(json.loads, whole.splitlines())
        if status is not None:
            return
        time.sleep(POLL_INTERVAL)


class _Bars:
    """One bar for all pairs, which says what is going on; without a terminal, a line for each pair."""

    def __init__(self, console: Console, pairs: Sequence[Pair]) -> None:
        self._console, self._number, self._over = console, len(pairs), 0
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bars.add_task("", total=len(pairs))

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Say what is going on."""
        self._bars.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(f"{text[:1].upper()}{text[1:]}", highlight=False, markup=False)

    def show(self, pair: Pair, server_round: int, num_rounds: int | None) -> None:
        """Show how far a pair is."""
        place = f"round {server_round}" if num_rounds is None else f"round {server_round} of {num_rounds}"
        part = server_round / num_rounds if num_rounds else 0.0
        text = f"{self._over + 1} of {self._number}: {_named(pair)}, {place}"
        self._bars.update(self._task, description=text, completed=self._over + min(part, 1.0))

    def done(self, pair: Pair, line: Line) -> None:
        """Say that a pair is over."""
        self._over += 1
        self._bars.update(self._task, completed=self._over)
        if line["error"] is not None or not self._console.is_terminal:
            told = line["error"] or ", ".join(f"{k} {v}" for k, v in list(line["metrics"].items())[:3])
            text = f"{self._over} of {self._number}: {_named(pair)}: {told} ({line['wall_s']:.1f} s)"
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _named(pair: Pair) -> str:
    attack = "no attack" if pair.attack == NONE else pair.attack
    return f"{attack} on {'no defence' if pair.defense == NONE else pair.defense}"
