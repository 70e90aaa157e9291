"""What is measured: our strategies on messages, our rules on matrices, and what others offer for the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import comb
from typing import Any

import flwr.serverapp.strategy as flower
import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

import flwr_robust
from flwr_robust import rules
from flwr_robust.rules import GaveUpError, Rule
from simulations.bench.messages import Problem

STRATEGY, MATRIX, FLOWER, BYZFL = "strategy", "matrix", "flower", "byzfl"

OURS = (
    *("Mean", "Median", "TrimmedMean", "MeaMed", "Krum", "MultiKrum", "GeometricMedian", "CenteredClipping"),
    *("FABA", "MDA", "DnC", "SignGuard", "SparseFed", "LASA", "Bulyan", "LFighter"),
    *("ARC+NNM+Krum", "ARC+NNM+MultiKrum", "ARC+NNM+GeometricMedian", "NNM+CenteredClipping"),
    *("ARC+Median", "NNM+Median", "NNM+TrimmedMean", "ARC+NNM+TrimmedMean", "ARC+NNM+MeaMed", "ARC+NNM+FABA"),
)
SEEDED = ("DnC", "SignGuard")
SEED = 1

# ByzFL's names of our rules.
BYZFL_NAMES = {"Mean": "Average", "TrimmedMean": "TrMean", "MeaMed": "Meamed"} | {
    name: name for name in ("Median", "Krum", "MultiKrum", "GeometricMedian", "CenteredClipping", "MDA", "NNM", "ARC")
}
WITHOUT_F = ("Average", "Median", "GeometricMedian", "CenteredClipping")
# ByzFL's MDA looks at every subset of n - f rows, at about 100,000 a minute.
MOST_SUBSETS = 20_000
# Copies of the replies that a case holds at a time, at most: without so much free memory it is not tried.
OWN_COPIES, PEER_COPIES = 0.3, 4.0

Thunk = Callable[[], Any]


class SkippedError(Exception):
    """Why a case is not measured; the text goes into the table."""


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes
    ----------
    name : str
        What it is called.
    group : str
        ``strategy``, ``matrix``, ``flower`` or ``byzfl``.
    rule : str
        The name among `OURS` of what it does.
    start : callable
        Takes the problem, and returns a function that gets one repetition ready and returns it: a function
        without arguments, to be timed. It raises SkippedError where the case cannot be measured.
    copies : callable
        Takes n and f, returns the memory it may take, in copies of all replies.
    """

    name: str
    group: str
    rule: str
    start: Callable[[Problem], Callable[[], Thunk]]
    copies: Callable[[int, int], float]

    @property
    def is_peer(self) -> bool:
        """Whether it is another library's."""
        return self.group in (FLOWER, BYZFL)


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
    unknown = [name for name in only if name.lower() not in known]
    if unknown:
        raise ValueError(f"there is no case {unknown[0]!r}; choose from {', '.join(OURS)}.")
    chosen = [known[name.lower()] for name in only] or OURS
    cases = [Case("FedAvg", FLOWER, "Mean", partial(_flower, "FedAvg", {}), _copies(PEER_COPIES))]
    for name in OURS:
        if name in chosen:
            cases += _cases_of(name, peers=peers, matrices=matrices, device=device)
    return cases


def _cases_of(name: str, *, peers: bool, matrices: bool, device: str | None) -> Iterator[Case]:
    yield Case(name, STRATEGY, name, partial(_strategy, name, device), _copies(OWN_COPIES))
    if matrices:
        yield Case(name, MATRIX, name, partial(_matrix, name), _copies(OWN_COPIES))
    if not peers:
        return
    if name in FLOWERS:
        theirs, arguments = FLOWERS[name]
        yield Case(theirs, FLOWER, name, partial(_flower, theirs, arguments), _copies(PEER_COPIES))
    if find_spec("byzfl") is not None and all(part in BYZFL_NAMES for part in name.split("+")):
        yield Case(name, BYZFL, name, partial(_byzfl, name), _byzfl_copies(name))


# ---------------------------------------------------------------- ours


def make_strategy(name: str, f: int, device: str | None = None) -> Any:
    """Return our strategy or chain of strategies of a name among `OURS`."""
    *before, last = name.split("+")
    options = {"seed": SEED} if last in SEEDED else {}
    strategy = getattr(flwr_robust, last)(num_malicious_nodes=f, device=device, **options)
    for wrapper in reversed(before):
        strategy = getattr(flwr_robust, wrapper)(strategy)
    return strategy


def make_rule(name: str, f: int) -> Rule:
    """Return the rule or chain of a name among `OURS`, made without a strategy."""
    parts = []
    for part in name.split("+"):
        stage = getattr(rules, part)
        parts.append(stage(**({"f": f} if stage.takes_f else {}), **({"seed": SEED} if part in SEEDED else {})))
    made: Rule = rules.chain(*parts)
    return made


def _strategy(name: str, device: str | None, problem: Problem) -> Callable[[], Thunk]:
    strategy = make_strategy(name, problem.f, device)
    _check(strategy.rule, problem.n)
    _configure(strategy, problem)

    def ready() -> Thunk:
        replies = problem.replies()

        def run() -> NDArray[np.float64] | Any:
            arrays, _ = strategy.aggregate_train(1, replies)
            skipped = strategy.reports[-1].skipped
            if skipped:
                raise SkippedError(skipped)
            return arrays

        return run

    return ready


def _matrix(name: str, problem: Problem) -> Callable[[], Thunk]:
    rule, matrix = make_rule(name, problem.f), problem.matrix
    _check(rule, problem.n)

    def run() -> Any:
        try:
            return rule(matrix, problem.layers)
        except GaveUpError as error:
            raise SkippedError(str(error)) from error

    return lambda: run


def _check(rule: Rule, n: int) -> None:
    try:
        rule.require_rows(n)
    except ValueError as error:
        raise SkippedError(str(error)) from error


def _configure(strategy: Strategy, problem: Problem) -> None:
    list(strategy.configure_train(1, problem.sent, ConfigRecord(), problem.grid()))


# ---------------------------------------------------------------- others


def _f(problem: Problem) -> dict[str, Any]:
    return {"num_malicious_nodes": problem.f}


# Flower's strategies and their arguments: MultiKrum averages as many as ours, FedTrimmedAvg cuts f on either side
# (half a row more, because Flower rounds the product with n down).
FLOWERS: dict[str, tuple[str, Any]] = {
    "Krum": ("Krum", _f),
    "MultiKrum": ("MultiKrum", lambda p: _f(p) | {"num_nodes_to_select": p.n - p.f}),
    "Bulyan": ("Bulyan", _f),
    "Median": ("FedMedian", lambda p: {}),
    "TrimmedMean": ("FedTrimmedAvg", lambda p: {"beta": (p.f + 0.5) / p.n}),
}


def _flower(name: str, arguments: Any, problem: Problem) -> Callable[[], Thunk]:
    if name == "Bulyan" and problem.n < 4 * problem.f + 3:
        raise SkippedError(f"Flower's Bulyan needs n >= 4f + 3 = {4 * problem.f + 3} replies.")
    given = arguments(problem) if callable(arguments) else arguments
    strategy = getattr(flower, name)(**given)
    _configure(strategy, problem)

    def ready() -> Thunk:
        replies = problem.replies()

        def run() -> Any:
            arrays, _ = strategy.aggregate_train(1, replies)
            if arrays is None:
                raise SkippedError(f"Flower's {name} returned no model.")
            return arrays

        return run

    return ready


def _byzfl(name: str, problem: Problem) -> Callable[[], Thunk]:
    import byzfl
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


def _byzfl_copies(name: str) -> Callable[[int, int], float]:
    # Its NNM gathers n - f rows for each of n rows, where ours makes weights.
    return lambda n, f: PEER_COPIES + (n - f if "NNM" in name else 0)


def _copies(number: float) -> Callable[[int, int], float]:
    return lambda n, f: number


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
