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


class Preset(StrEnum):
    """Sizes of a bench (`simulations.bench.run.PRESETS`)."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    CROWD = "crowd"


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
        raise _failed(console, f"Error: {error}") from error


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
        raise _failed(console, f"Error: {error}") from error


@app.command()
def bench(
    preset: Annotated[
        Preset, typer.Option(help="Sizes: 17 x 431,080; 17 x 1,310,922; 50 x 11,173,962; 500 x 431,080.")
    ] = Preset.SMALL,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Replies.", show_default="the preset's")] = None,
    d: Annotated[int | None, typer.Option("--d", min=1, help="Parameters.", show_default="the preset's")] = None,
    f: Annotated[int | None, typer.Option("--f", min=0, help="Malicious replies.", show_default="the preset's")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions, of which the median counts.")] = 5,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A strategy or chain, as in ARC+NNM+Krum; more than once for more.",
            show_default="all of them",
        ),
    ] = None,
    skip_peers: Annotated[bool, typer.Option("--skip-peers", help="Leave out Flower's rules and ByzFL.")] = False,
    skip_matrices: Annotated[bool, typer.Option("--skip-matrices", help="Leave out rules on plain matrices.")] = False,
    peer_limit: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="A peer that takes longer is measured once; growth ends there."),
    ] = 60.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads.", show_default="every core")] = None,
    growth: Annotated[
        bool, typer.Option("--growth", help="Cost against n and d too, on matrices (growth.png).")
    ] = False,
    largest_n: Annotated[int, typer.Option("--largest-n", min=1, help="Where growth against n ends.")] = 1000,
    largest_d: Annotated[int, typer.Option("--largest-d", min=1, help="Where growth against d ends.")] = 100_000_000,
    out: Annotated[Path, typer.Option(help="Folder of bench.json and bench.png.")] = Path("results"),
) -> None:
    """Measure what each strategy costs, beside FedAvg, Flower's own rules, ByzFL and the machine's limits."""
    console = Console()
    _require(("matplotlib",), "pictures", console)
    from simulations.bench.run import BenchError, Options, run_bench

    options = Options(
        preset=preset.value,
        n=n,
        d=d,
        f=f,
        repeats=repeats,
        only=only or (),
        peers=not skip_peers,
        matrices=not skip_matrices,
        growth=growth,
        peer_limit=peer_limit,
        threads=threads,
        largest_n=largest_n,
        largest_d=largest_d,
        out=out,
    )
    try:
        run_bench(options, console)
    except BenchError as error:
        raise _failed(console, f"Error: {error}") from error


def _require_simulation_packages(console: Console) -> None:
    """Stop before anything starts if a package is missing that nodes will import."""
    _require(SIMULATION_PACKAGES, "simulations", console)


def _require(packages: Sequence[str], purpose: str, console: Console) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        needed = f"{', '.join(missing)} cannot be imported, but {purpose} need it: {SIMULATION_EXTRA}"
        raise _failed(console, needed)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()


def _failed(console: Console, why: str) -> typer.Exit:
    """Say why a command failed, and return what ends it."""
    console.print(why, style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)
