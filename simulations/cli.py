"""The console command ``flwr-robust``.

What a command needs is imported when it runs: listing, help and checks do without torch, Ray and pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from flwr_robust import __version__
from simulations.bench.presets import PRESETS

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

STOPPED = 130  # the exit status of a command that Ctrl-C ended
SIMULATION = ("torch", "ray", "datasets", "flwr_datasets", "sklearn", "PIL", "matplotlib", "pydantic")


class Kind(StrEnum):
    """What can be listed."""

    RULES = "rules"
    ATTACKS = "attacks"
    DATASETS = "datasets"
    PARTITIONS = "partitions"
    MODELS = "models"
    EXPERIMENTS = "experiments"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flwr-robust {__version__}")
        raise typer.Exit


@app.callback()
def command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Byzantine-robust aggregation for Flower: what there is, and simulations of it."""


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="One list alone.", show_default="all of them")] = None,
) -> None:
    """Show rules, attacks, data sets, partitions, models and experiments, with what each needs."""
    _require(("pydantic",), "lists", "simulation")
    from simulations.config.listing import make_list

    for chosen in Kind if kind is None else [kind]:
        Console().print(make_list(chosen.value))


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each run.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder of the picture, the results and the log.")] = Path("results"),
    backdoor: Annotated[
        bool, typer.Option("--backdoor", help="Plant a backdoor, and show which defences keep it out.")
    ] = False,
) -> None:
    """Attack a federation: undisturbed, undefended, defended."""
    _require(SIMULATION, "simulations", "simulation")
    from simulations.demo import run_backdoor_demo, run_demo
    from simulations.engine.progress import SessionError

    try:
        (run_backdoor_demo if backdoor else run_demo)(out, rounds, Console())
    except SessionError as error:
        raise _failed(error) from error


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
    _require(("pydantic",) if dry_run else SIMULATION, "simulations", "simulation")
    from simulations.engine.session import Resources
    from simulations.experiments.experiment import ExperimentError
    from simulations.sweep.cells import make_plan
    from simulations.sweep.lane import SweepError
    from simulations.sweep.run import run_sweep, show_outcome, show_plan
    from simulations.sweep.store import StoreError

    console = Console()
    try:
        plan = make_plan(experiment, lite=lite, out=out, seeds=seeds, only=only or ())
        if dry_run:
            show_plan(plan, console)
            return
        failed = run_sweep(plan, Resources(num_cpus, num_gpus), parallel, console)
    except (ExperimentError, StoreError, SweepError) as error:
        raise _failed(error) from error
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on where it was.")
        raise typer.Exit(STOPPED) from None
    show_outcome(plan, failed, console)
    if failed:
        raise typer.Exit(1)


@app.command()
def audit(
    path: Annotated[Path, typer.Argument(help="A Flower project: the folder of its pyproject.toml.")],
    attacks: Annotated[
        str, typer.Option(help="Names of 'flwr-robust list attacks', as sign-flip,alie:tau=1.5.")
    ] = "sign-flip,alie,label-flip",
    defenses: Annotated[
        str, typer.Option(help="Rules or chains, with commas between; none is the app as it is.")
    ] = "none,trimmed-mean,arc+nnm+trimmed-mean",
    malicious: Annotated[int, typer.Option(help="Malicious nodes, which the defences tolerate.")] = 2,
    nodes: Annotated[int, typer.Option(help="Simulated nodes.")] = 10,
    rounds: Annotated[int | None, typer.Option(help="Rounds of each run.", show_default="the app's own")] = None,
    metric: Annotated[
        str | None, typer.Option(help="The app's metric that counts.", show_default="its accuracy, or the first")
    ] = None,
    lower_is_better: Annotated[
        bool | None,
        typer.Option("--lower-is-better/--higher-is-better", help="Of the metric.", show_default="by its name"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of who is malicious, of attacks and of the app's random numbers.")] = 1,
    run_config: Annotated[
        list[str] | None, typer.Option("--run-config", "-c", help="As flwr run takes it: 'key=1 other=\"text\"'.")
    ] = None,
    num_cpus: Annotated[float, typer.Option(min=0.01, help="Cores of each simulated node.")] = 1.0,
    num_gpus: Annotated[float, typer.Option(min=0, max=1, help="GPUs of each node: 0.1 lets ten share one.")] = 0.0,
    out: Annotated[Path, typer.Option(help="Folder of index.html, results.jsonl and the log.")] = Path("audit"),
) -> None:
    """Attack a Flower project of yours, which stays as it is, and see which defence holds.

    It may be stopped or killed at any time: the same command goes on where it was.
    """
    _require(("ray", "sklearn", "matplotlib", "jinja2", "pydantic"), "audits", "simulation")
    from simulations.audit.plan import Options, make_plan
    from simulations.audit.project import AuditError

    console = Console()
    try:
        given = Options(attacks, defenses, malicious, nodes, rounds, metric, seed, tuple(run_config or ()))
        plan = make_plan(path, given)

        from simulations.audit.run import run_audit
        from simulations.engine.session import Resources

        run_audit(plan, out, Resources(num_cpus, num_gpus), console, lower_is_better)
    except AuditError as error:
        raise _failed(error) from error
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on where it was.")
        raise typer.Exit(STOPPED) from None


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
    csv: Annotated[bool, typer.Option("--csv", help="Write the numbers of single runs as CSV too.")] = False,
) -> None:
    """Show what came out of sweeps beside what the papers say, and what became of the nodes of single runs.

    A PATH is a folder that holds sweeps or runs, the results of a run (its .jsonl), or a strategy's report_path.

    Each sweep gets report.html, report.md and pictures: the table in the paper's own shape, and its figures.

    Each run gets a picture NAME-nodes.png: each node in each round, malicious ones marked if known.
    """
    _require(("matplotlib",), "pictures", "report")
    from flwr_robust.record.fates import ReportError
    from simulations.reports.command import report as draw
    from simulations.sweep.folder import find_sweeps

    if any(find_sweeps(path) for path in paths if path.is_dir()):
        _require(("jinja2", "markdown_it", "pandas", "pydantic", "seaborn"), "reports of sweeps", "simulation")
    try:
        errors = draw(paths, out, Console(), csv=csv)
    except ReportError as error:
        raise _failed(error) from error
    if errors:
        raise _failed(*errors)


@app.command()
def watch(
    path: Annotated[Path, typer.Argument(help="A strategy's report_path; it may not exist yet.")],
    once: Annotated[bool, typer.Option("--once", help="Show what is there, and end.")] = False,
) -> None:
    """Follow the rounds of a running federation: threshold, weights, the most suspicious nodes.

    A live table in a terminal; where there is none (a pipe, a log), a line a round. Ctrl-C ends it.
    """
    from flwr_robust.record.fates import ReportError
    from simulations.reports.watch import watch as show

    try:
        show(path, Console(), once=once)
    except (OSError, ReportError) as error:
        raise _failed(error) from error
    except KeyboardInterrupt:
        raise typer.Exit from None


@app.command()
def bench(
    context: typer.Context,
    preset: Annotated[
        str,
        typer.Option(
            click_type=click.Choice(list(PRESETS)),
            help="Sizes: " + "; ".join(f"{n} x {d:,}" for n, d, _ in PRESETS.values()) + ".",
        ),
    ] = "small",
    n: Annotated[int | None, typer.Option("--n", min=1, help="Replies.", show_default="the preset's")] = None,
    d: Annotated[int | None, typer.Option("--d", min=1, help="Parameters.", show_default="the preset's")] = None,
    f: Annotated[int | None, typer.Option("--f", min=0, help="Malicious replies.", show_default="the preset's")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions, of which the median counts.")] = 5,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A strategy or chain, as ARC+NNM+Krum; more than once for more.", show_default="all"
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
    _require(SIMULATION if simulated_round else ("matplotlib",), "pictures and simulated rounds", "simulation")
    from simulations.bench.run import BenchError, Options, run_bench
    from simulations.engine.progress import SessionError

    try:
        run_bench(Options(**context.params | {"out": out}), Console())  # whose folder is still a text in the context
    except (BenchError, SessionError) as error:
        raise _failed(error) from error
    except KeyboardInterrupt:
        Console().print("Stopped.")
        raise typer.Exit(STOPPED) from None


def _require(packages: Sequence[str], purpose: str, extra: str) -> None:
    """Stop before anything starts if a package is missing."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise _failed(
            f'{", ".join(missing)} cannot be imported, but {purpose} need it: pip install "flwr-robust[{extra}]".'
        )


def _failed(*reasons: object) -> typer.Exit:
    """Say why a command failed, and return what ends it."""
    for reason in reasons:
        Console().print(f"Error: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)


if __name__ == "__main__":
    app()
