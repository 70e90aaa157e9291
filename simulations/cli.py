"""The console command ``flwr-robust``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Byzantine-robust aggregation for Flower: what there is, and simulations of it.",
)

SIMULATION_PACKAGES = ("torch", "ray", "datasets", "flwr_datasets", "sklearn", "PIL", "matplotlib")
SIMULATION_EXTRA = 'pip install "flwr-robust[simulation]"'


class Kind(StrEnum):
    """What can be listed."""

    RULES = "rules"
    ATTACKS = "attacks"
    DATASETS = "datasets"
    PARTITIONS = "partitions"
    MODELS = "models"
    EXPERIMENTS = "experiments"


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="One list alone.", show_default="all of them")] = None,
) -> None:
    """Show rules, attacks, data sets, partitions, models and experiments, with what each needs."""
    from simulations import listing

    console = Console()
    for chosen in Kind if kind is None else [kind]:
        console.print(listing.TABLES[chosen.value]())


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each of the three runs.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder of the picture, the results and the log.")] = Path("results"),
) -> None:
    """Attack a federation three times: undisturbed, undefended, defended."""
    console = Console()
    _require_simulation_packages(console)
    from simulations.demo import run_demo
    from simulations.progress import SessionError

    try:
        run_demo(out, rounds, console)
    except SessionError as error:
        console.print(f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Results of a run (its .jsonl), a strategy's report_path, or a folder of either.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures.", show_default="beside each file")] = None,
) -> None:
    """Draw what became of each node in each round, and count malicious nodes caught and honest ones lost.

    A PATH is the results of a run (its .jsonl), a strategy's report_path, or a folder.

    Each run gets a picture NAME-nodes.png, in which malicious nodes are marked if known.
    """
    console = Console()
    _require(("matplotlib",), "pictures", console)
    from simulations.fates import ReportError
    from simulations.report import report as draw

    try:
        draw(paths, out, console)
    except ReportError as error:
        console.print(f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _require_simulation_packages(console: Console) -> None:
    """Stop before anything starts if a package is missing that nodes will import."""
    _require(SIMULATION_PACKAGES, "simulations", console)


def _require(packages: Sequence[str], purpose: str, console: Console) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        needed = f"{', '.join(missing)} cannot be imported, but {purpose} need it: {SIMULATION_EXTRA}"
        console.print(needed, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
