"""What is measured: our strategies on messages, our rules on matrices, and what others offer for the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from inspect import signature
from math import comb
from typing import Any

import flwr.serverapp.strategy as flower
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import Strategy

import flwr_robust
from flwr_robust import rules
from flwr_robust.rules import GaveUpError, Rule
from simulations.bench.messages import FIRST_NODE, Problem
from simulations.wording import unknown

STRATEGY, MATRIX, FLOWER, BYZFL = "strategy", "matrix", "flower", "byzfl"

CHAINS = (
    *("ARC+NNM+Krum", "ARC+NNM+MultiKrum", "ARC+NNM+GeometricMedian", "NNM+CenteredClipping"),
    *("ARC+Median", "NNM+Median", "NNM+TrimmedMean", "ARC+NNM+TrimmedMean", "ARC+NNM+MeaMed", "ARC+NNM+FABA"),
)
# All rules but MixTailor, which is another one in each round.
OURS = (
    *(kind.__name__ for kind in rules.REGISTRY.values() if issubclass(kind, Rule) and kind is not rules.MixTailor),
    *CHAINS,
)
SEED = 1

# ByzFL's names of our rules.
BYZFL_NAMES = {"Mean": "Average", "TrimmedMean": "TrMean", "MeaMed": "Meamed"} | {
    name: name for name in ("Median", "Krum", "MultiKrum", "GeometricMedian", "CenteredClipping", "MDA", "NNM", "ARC")
}
WITHOUT_F = ("Average", "Median", "GeometricMedian", "CenteredClipping")
# ByzFL's MDA goes through every subset of n - f rows, about 100,000 a minute.
MOST_SUBSETS = 20_000
# Steps of ResidualReweighting, of which there are n^2 a column.
MOST_STEPS = 2e9
# Copies of the replies that a case holds at a time, at most: without so much free memory it is not tried.
OWN_COPIES, PEER_COPIES = 0.3, 4.0

Thunk = Callable[[], Any]


class SkippedError(Exception):
    """Why a case is not measured; the text goes into the table."""


@dataclass(frozen=True)
class Case:
    """Something to measure."""

    name: str
    group: str
    """``strategy``, ``matrix``, ``flower`` or ``byzfl``."""
    rule: str
    """The name among `OURS` of what it does."""
    start: Callable[[Problem], Callable[[], Thunk]]
    """Takes the problem, and returns a function that gets one repetition ready and returns it: a function without
    arguments, to be timed. It raises SkippedError where the case cannot be measured."""

    @property
    def is_peer(self) -> bool:
        """Whether it is another library's."""
        return self.group in (FLOWER, BYZFL)

    def copies(self, n: int, f: int) -> float:
        """Return the memory that it may take, in copies of all replies."""
        # ByzFL's NNM gathers n - f rows for each of n rows, where ours makes weights.
        gathered = n - f if self.group == BYZFL and "NNM" in self.rule else 0
        return PEER_COPIES + gathered if self.is_peer else OWN_COPIES


def all_cases(
    only: Sequence[str] = (), *, peers: bool = True, matrices: bool = True, device: str | None = None
) -> list[Case]:
    """Return the cases, FedAvg first; with `only` those of these rules and chains, FedAvg still with them.

    With a `device` our strategies aggregate there; plain matrices stay on the CPU, so that results can be compared.

    Raises
    ------
    ValueError
        If a name is none of `OURS`.
    """
    known = {name.lower(): name for name in OURS}
    for name in only:
        if name.lower() not in known:
            raise ValueError(unknown(f"the case {name!r}", name, OURS))
    chosen = [known[name.lower()] for name in only] or OURS
    cases = [Case("FedAvg", FLOWER, "Mean", partial(_flower, "FedAvg"))]
    for name in OURS:
        if name in chosen:
            cases += _cases_of(name, peers=peers, matrices=matrices, device=device)
    return cases


def _cases_of(name: str, *, peers: bool, matrices: bool, device: str | None) -> Iterator[Case]:
    yield Case(name, STRATEGY, name, partial(_strategy, name, device))
    if matrices:
        yield Case(name, MATRIX, name, partial(_matrix, name))
    if peers and name in FLOWER_NAMES:
        yield Case(FLOWER_NAMES[name], FLOWER, name, partial(_flower, FLOWER_NAMES[name]))
    if peers and find_spec("byzfl") is not None and all(part in BYZFL_NAMES for part in name.split("+")):
        yield Case(name, BYZFL, name, partial(_byzfl, name))


# ---------------------------------------------------------------- ours


def make_strategy(name: str, f: int, device: str | None = None, root: ArrayRecord | None = None) -> Any:
    """Return our strategy or chain of strategies of a name among `OURS`; `root` is what the server has trained."""
    *before, last = name.split("+")
    options = _seed(last) | ({"reference": FIRST_NODE} if last == "MoNNA" else {})
    strategy = getattr(flwr_robust, last)(
        num_malicious_nodes=f, device=device, root_fn=lambda arrays, server_round: root, **options
    )
    for wrapper in reversed(before):
        strategy = getattr(flwr_robust, wrapper)(strategy)
    return strategy


def make_rule(name: str, f: int) -> Rule:
    """Return the rule or chain of a name among `OURS`."""
    rule: Rule = make_strategy(name, f).rule
    return rule


def _seed(name: str) -> dict[str, int]:
    return {"seed": SEED} if "seed" in signature(getattr(rules, name)).parameters else {}


def _strategy(name: str, device: str | None, problem: Problem) -> Callable[[], Thunk]:
    strategy = make_strategy(name, problem.f, device, problem.root)
    _require_rows(strategy.rule, problem.n)
    _require_time(strategy.rule, problem)
    return _on_messages(strategy, problem, lambda _: strategy.reports[-1].skipped)


def _on_messages(strategy: Strategy, problem: Problem, failed: Callable[[Any], str | None]) -> Callable[[], Thunk]:
    """Get a strategy ready; `failed` says of the arrays that it returned why they do not count."""
    list(strategy.configure_train(1, problem.sent, ConfigRecord(), problem.grid()))

    def ready() -> Thunk:
        replies = problem.replies()

        def run() -> Any:
            arrays, _ = strategy.aggregate_train(1, replies)
            why = failed(arrays)
            if why:
                raise SkippedError(why)
            return arrays

        return run

    return ready


def _matrix(name: str, problem: Problem) -> Callable[[], Thunk]:
    rule, matrix = make_rule(name, problem.f), problem.matrix
    _require_rows(rule, problem.n)
    _require_time(rule, problem)

    def run() -> Any:
        try:
            return rule(matrix, problem.layers, ids=problem.nodes, root=matrix[0], model=problem.model)
        except GaveUpError as error:
            raise SkippedError(str(error)) from error

    return lambda: run


def _require_rows(rule: Rule, n: int) -> None:
    try:
        rule.require_rows(n)
    except ValueError as error:
        raise SkippedError(str(error)) from error


def _require_time(rule: Rule, problem: Problem) -> None:
    if isinstance(rule.last, rules.ResidualReweighting) and problem.n**2 * problem.d > MOST_STEPS:
        raise SkippedError("It takes n^2 steps a column, which here are minutes.")


# ---------------------------------------------------------------- others

FLOWER_NAMES = {"Median": "FedMedian", "TrimmedMean": "FedTrimmedAvg"} | {
    name: name for name in ("Krum", "MultiKrum", "Bulyan")
}


def _flower_arguments(name: str, problem: Problem) -> dict[str, Any]:
    """MultiKrum averages as many as ours, FedTrimmedAvg cuts f on either side.

    (Half a row more, because Flower rounds the product with n down.)
    """
    malicious = {"num_malicious_nodes": problem.f}
    arguments: dict[str, dict[str, Any]] = {
        "Krum": malicious,
        "Bulyan": malicious,
        "MultiKrum": malicious | {"num_nodes_to_select": problem.n - problem.f},
        "FedTrimmedAvg": {"beta": (problem.f + 0.5) / problem.n},
    }
    return arguments.get(name, {})


def _flower(name: str, problem: Problem) -> Callable[[], Thunk]:
    if name == "Bulyan" and problem.n < 4 * problem.f + 3:
        raise SkippedError(f"Flower's Bulyan needs n >= 4f + 3 = {4 * problem.f + 3} replies.")
    strategy = getattr(flower, name)(**_flower_arguments(name, problem))
    return _on_messages(
        strategy, problem, lambda arrays: f"Flower's {name} returned no model." if arrays is None else None
    )


def _byzfl(name: str, problem: Problem) -> Callable[[], Thunk]:
    import byzfl  # optional, as torch is for the bench
    import torch

    n, f = problem.n, problem.f
    names = [BYZFL_NAMES[part] for part in name.split("+")]
    if "MDA" in names and comb(n, f) > MOST_SUBSETS:
        raise SkippedError(f"ByzFL's MDA would go through {comb(n, f):,} subsets.")
    stages = [getattr(byzfl, part)(**({} if part in WITHOUT_F else {"f": f})) for part in names]
    tensor = torch.from_numpy(problem.matrix)

    def ready() -> Thunk:
        # Its ARC clips the rows that it is given in place.
        rows = tensor.clone() if "ARC" in names else tensor

        def run() -> Any:
            result = rows
            for stage in stages:
                result = stage(result)
            return result

        return run

    return ready


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Flower's log of each round off the screen."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
