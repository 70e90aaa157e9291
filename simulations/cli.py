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

STOPPED = 130  # the exit status of a command that Ctrl-C ended
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
    from simulations.config import listing

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
    from simulations.engine.progress import SessionError

    try:
        run_demo(out, rounds, console)
    except SessionError as error:
        raise _failed(console, f"Error: {error}") from error


@app.command()
def sweep(
    experiment: Annotated[
        str, typer.Argument(help="A name of 'flwr-robust list experiments', or the path of a .toml file.")
    ],
    lite: Annotated[bool, typer.Option("--lite", help="The small version, for two cores and half an hour.")] = False,
    out: Annotated[Path, typer.Option(help="Gets the folder EXPERIMENT or EXPERIMENT-lite.")] = Path("results"),
    num_cpus: Annotated[float, typer.Option(min=0.01, help="Cores of each simulated node.")] = 1.0,
    num_gpus: Annotated[float, typer.Option(min=0, max=1, help="GPUs of each node: 0.1 lets ten share one.")] = 0.0,
    parallel: Annotated[
        int | None,
        typer.Option(min=1, help="Cells side by side, in sessions of their own.", show_default="by cores and GPUs"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="In the place of the experiment's, as 1-5 or 1,3.")] = "",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=LABEL", help="Only these cells; more than once for more.", show_default="all"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the cells, and start nothing.")] = False,
) -> None:
    """Do all runs of an experiment, those that are done already excepted.

    It may be stopped or killed at any time: the same command goes on where it was.
    """
    from simulations.experiments.experiment import ExperimentError
    from simulations.sweep.lane import SweepError
    from simulations.sweep.plan import Options, make_plan, parse_seeds, show_plan
    from simulations.sweep.run import run_sweep, show_outcome
    from simulations.sweep.store import StoreError

    console = Console()
    try:
        options = Options(experiment, lite, out, num_cpus, num_gpus, parallel, parse_seeds(seeds), tuple(only or ()))
        plan = make_plan(options)
        if dry_run:
            show_plan(plan, console)
            return
        _require_simulation_packages(console)
        failed = run_sweep(plan, options, console)
    except (ExperimentError, StoreError, SweepError) as error:
        raise _failed(console, f"Error: {error}") from error
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on where it was.")
        raise typer.Exit(STOPPED) from None
    show_outcome(plan, failed, console)
    if failed:
        raise typer.Exit(1)


@app.command()
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Results of a run (its .jsonl), a strategy's report_path, or a folder of either or of sweeps.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of what is written.", show_default="beside the files")
    ] = None,
) -> None:
    """Show what came out of sweeps beside what the papers say, and what became of the nodes of single runs.

    A PATH is a folder that holds sweeps or runs, the results of a run (its .jsonl), or a strategy's report_path.

    Each sweep gets report.html, report.md and pictures: the table in the paper's own shape, and its figures.

    Each run gets a picture NAME-nodes.png: each node in each round, malicious ones marked if known.
    """
    console = Console()
    _require(("matplotlib",), "pictures", console)
    from flwr_robust.record.fates import ReportError
    from simulations.reports.command import report as draw

    try:
        errors = draw(paths, out, console)
    except ReportError as error:
        raise _failed(console, f"Error: {error}") from error
    if errors:
        raise _failed(console, "\n".join(f"Error: {error}" for error in errors))


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
    device: Annotated[
        str | None,
        typer.Option(help="Where strategies aggregate through torch: cuda, cuda:1, or cpu.", show_default="not torch"),
    ] = None,
    simulated_round: Annotated[
        bool,
        typer.Option("--simulated-round", help="Aggregation's share of a simulated round too (17 nodes, MNIST)."),
    ] = False,
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
    if simulated_round:
        _require_simulation_packages(console)
    from simulations.bench.run import BenchError, Options, run_bench
    from simulations.engine.progress import SessionError

    options = Options(
        preset=preset.value,
        n=n,
        d=d,
        f=f,
        repeats=repeats,
        only=only or (),
        peers=not skip_peers,
        matrices=not skip_matrices,
        simulated_round=simulated_round,
        growth=growth,
        peer_limit=peer_limit,
        threads=threads,
        device=device,
        largest_n=largest_n,
        largest_d=largest_d,
        out=out,
    )
    try:
        run_bench(options, console)
    except (BenchError, SessionError) as error:
        raise _failed(console, f"Error: {error}") from error
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(STOPPED) from None


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
