"""The share of a simulated round that aggregation takes: a short run on Flower's Ray engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from simulations.config.run_config import RunConfig
from simulations.data.load import load_split
from simulations.engine.progress import watch
from simulations.engine.session import Session
from simulations.node.models import build_model
from simulations.run.results import RunResult
from simulations.wording import count

NUM_NODES, NUM_MALICIOUS = 17, 4
# The first round starts what later ones find running, and the last one is evaluated: neither counts.
ROUNDS = 22
FOLDER = "simulated-round"


@dataclass(frozen=True)
class SimulatedRound:
    """What a round takes, and what `aggregate_train` takes of it: medians over rounds in which nothing is evaluated."""

    nodes: int
    parameters: int
    chain: str
    rounds: int
    seconds: float
    aggregation_seconds: float

    @property
    def share(self) -> float:
        """The aggregation's part of the round."""
        return self.aggregation_seconds / self.seconds

    def __str__(self) -> str:
        """Return it as a sentence."""
        return (
            f"A simulated round of {self.nodes} nodes and {self.parameters:,} parameters takes {self.seconds:.3f} s, "
            f"of which {self.chain} takes {self.aggregation_seconds:.4f} s: {self.share:.1%} "
            f"(medians of {count(self.rounds, 'round')})."
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"share": self.share}


def config_for(folder: Path) -> RunConfig:
    """Return a run with the papers' network and little training: one step on 25 images a node and round.

    More training would make rounds longer, and the aggregation's share smaller.
    """
    return RunConfig(
        dataset="mnist",
        num_malicious=NUM_MALICIOUS,
        attack="none",
        defense="arc+nnm+trimmed-mean",
        learning_rate=0.1,
        num_rounds=ROUNDS,
        evaluate_every=ROUNDS,
        out_dir=str(folder),
    )


def require_data() -> None:
    """Read the data, which may have to be fetched, before anything is measured.

    Raises
    ------
    DataError
        If they cannot be had.
    """
    load_split(config_for(Path()).dataset, "train")


def measure_round(out: Path, console: Console) -> SimulatedRound:
    """Run the simulation, whose results and log go to a folder below `out`.

    Raises
    ------
    SessionError
        If it ends early.
    """
    folder = out / FOLDER
    config = config_for(folder)
    with Session([config], NUM_NODES, folder / "session.log") as session:
        (result,) = watch(session, [f"{NUM_NODES} nodes on Flower's simulation engine"], console)
    return summarise(result)


def summarise(result: RunResult) -> SimulatedRound:
    """Return the medians of the rounds that count in a run's results."""
    lines = [line for line in result.rounds if line["round"] > 1 and line["accuracy"] is None]
    model = build_model(result.parameters["model"], result.parameters["dataset"])
    return SimulatedRound(
        nodes=result.num_nodes,
        parameters=sum(values.numel() for values in model.parameters()),
        chain=result.parameters["defense"],
        rounds=len(lines),
        seconds=median(line["seconds"] for line in lines),
        aggregation_seconds=median(line["aggregation-seconds"] for line in lines),
    )
