"""The demonstrations: an attack that breaks a model, and one that plants a backdoor, with and without a defence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulations.config.catalog import DATASETS
from simulations.config.components import rule_name
from simulations.config.run_config import RunConfig
from simulations.engine.progress import watch
from simulations.engine.session import Session
from simulations.reports.figures.predictions import Shown, plot_predictions
from simulations.reports.figures.style import line_style, new_sheet, tidy
from simulations.run.results import FINAL_SUCCESS, RunResult
from simulations.run.success import shown_data

NUM_NODES = 10
NUM_MALICIOUS = 3
BACKDOOR_DEFENCES = ("mean", "norm-clipping", "arc+nnm+trimmed-mean", "krum", "rlr", "foolsgold", "flame")


@dataclass(frozen=True)
class Case:
    """A run of the demonstration and what it is called."""

    name: str
    attack: str
    config: RunConfig


def cases(folder: Path, rounds: int) -> list[Case]:
    """Return the baseline, the undefended and the defended run."""
    shared = RunConfig(
        num_malicious=NUM_MALICIOUS,
        attack="foe",
        attack_args="tau=10",
        num_rounds=rounds,
        lr_schedule="inverse:20",
        out_dir=str(folder),
    )
    defense = "arc+nnm+trimmed-mean"
    return [
        Case("No attack, averaging", "none", shared.replace(attack="none", attack_args="", defense="mean")),
        Case("Fall of Empires, averaging", "foe (tau=10)", shared.replace(defense="mean")),
        Case(f"Fall of Empires, {rule_name(defense)}", "foe (tau=10)", shared.replace(defense=defense)),
    ]


def run_demo(out_dir: Path, rounds: int, console: Console) -> list[RunResult]:
    """Run the cases in one session, show their accuracies and draw them.

    The folder gets ``demo.png`` and the folder ``demo`` with results and log.
    """
    folder = out_dir / "demo"
    chosen = cases(folder, rounds)
    console.print(
        f"{NUM_NODES} nodes share scikit-learn's digits; {NUM_MALICIOUS} of them are malicious. "
        f"{len(chosen)} runs of {rounds} rounds on Flower's simulation engine, which takes a while to start."
    )
    results = _run(chosen, folder / "session.log", console)
    console.print(_table(chosen, results))
    picture = out_dir / "demo.png"
    plot_accuracy({case.name: result.curve for case, result in zip(chosen, results, strict=True)}, picture)
    console.print(f"Picture: {picture}", soft_wrap=True)
    return results


def _run(chosen: Sequence[Case], log_path: Path, console: Console) -> list[RunResult]:
    """Run cases in one session."""
    console.print(f"Log: {log_path}", soft_wrap=True)
    with Session([case.config for case in chosen], NUM_NODES, log_path) as session:
        return watch(session, [case.name for case in chosen], console)


def backdoor_cases(folder: Path, rounds: int) -> list[Case]:
    """Return the same federation with a backdoor: undisturbed, undefended, and under several defences."""
    shared = RunConfig(
        num_malicious=NUM_MALICIOUS,
        attack="badnets",
        attack_args="target=0 size=2",
        num_rounds=rounds,
        lr_schedule="inverse:20",
        measure="predictions",
        out_dir=str(folder),
    )
    clean = Case("No attack, averaging", "none", shared.replace(num_malicious=0, defense="mean"))
    return [clean] + [
        Case("averaging" if defense == "mean" else rule_name(defense), "badnets", shared.replace(defense=defense))
        for defense in BACKDOOR_DEFENCES
    ]


def run_backdoor_demo(out_dir: Path, rounds: int, console: Console) -> list[RunResult]:
    """Run the cases in one session, show accuracies and success rates, and draw what each model says.

    The folder gets ``backdoor.png`` and the folder ``backdoor`` with results and log.
    """
    folder = out_dir / "backdoor"
    chosen = backdoor_cases(folder, rounds)
    console.print(
        f"{NUM_NODES} nodes share scikit-learn's digits; {NUM_MALICIOUS} of them paint a white square into half of "
        f"theirs and call them 0. {len(chosen)} runs of {rounds} rounds, which takes a while."
    )
    results = _run(chosen, folder / "session.log", console)
    console.print(_backdoor_table(chosen, results))
    picture = out_dir / "backdoor.png"
    plot_backdoor(chosen, results, picture)
    console.print(f"Picture: {picture}", soft_wrap=True)
    return results


def plot_backdoor(chosen: Sequence[Case], results: Sequence[RunResult], path: Path) -> None:
    """Draw test samples clean and triggered, and what the last model of each run says of them."""
    told = [result.rounds[-1]["predictions"] for result in results]
    shown = shown_data(chosen[0].config)
    said = {case.name: (one["clean"], one["triggered"]) for case, one in zip(chosen, told, strict=True)}
    figure = plot_predictions(
        Shown(shown.clean[:, 0], shown.triggered[:, 0], shown.labels.tolist(), shown.target), said
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _backdoor_table(chosen: Sequence[Case], results: Sequence[RunResult]) -> Table:
    table = Table(title="Test accuracy, and how often triggered digits are taken for 0")
    for heading in ("Attack", "Defence"):
        table.add_column(heading)
    for heading in ("Accuracy", "Attack success"):
        table.add_column(heading, justify="right")
    for case, result in zip(chosen, results, strict=True):
        assert result.end is not None
        shares = (f"{result.end[key]:.1%}" for key in ("final_accuracy", FINAL_SUCCESS))
        table.add_row(case.attack, rule_name(case.config.defense), *shares)
    return table


def plot_accuracy(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """Draw test accuracy by round: rounds and accuracies (0 to 1) of each run, by its name."""
    figure = new_sheet(7.0, 4.4)
    axes = figure.add_subplot()
    tidy(axes)
    chance = 100 / DATASETS["digits"].num_classes
    axes.axhline(chance, color="0.6", linewidth=0.8)
    axes.annotate("guessing", (1, chance), (-4, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  ha="right", va="bottom", color="0.4", fontsize=8)  # fmt: skip
    for number, (name, (rounds, accuracies)) in enumerate(curves.items()):
        percent = [100 * accuracy for accuracy in accuracies]
        axes.plot(rounds, percent, label=name, markevery=max(1, len(rounds) // 8), **line_style([number]))
    title = f"Digits, {NUM_NODES} nodes, {NUM_MALICIOUS} of them malicious"
    axes.set(xlabel="Round", ylabel="Test accuracy (%)", ylim=(0, 100), title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _table(chosen: list[Case], results: list[RunResult]) -> Table:
    table = Table(title="Test accuracy")
    for heading in ("Attack", "Defence"):
        table.add_column(heading)
    for heading in ("Last round", "Best round", "Seconds"):
        table.add_column(heading, justify="right")
    for case, result in zip(chosen, results, strict=True):
        assert result.end is not None
        shares = (f"{result.end[key]:.1%}" for key in ("final_accuracy", "max_accuracy"))
        table.add_row(case.attack, rule_name(case.config.defense), *shares, f"{result.end['wall_s']:.1f}")
    return table
