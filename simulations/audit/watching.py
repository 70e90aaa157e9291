"""What an app says of its own run while it goes on: rounds, and the metrics of the server's own evaluation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from flwr.server import server as legacy
from flwr.server.history import History
from flwr.serverapp.strategy import Strategy

from simulations.audit.grids import Curves, Gathering

# What strategies call the nodes that must be there before they ask any; a run would wait for them without end.
LEAST = (
    "min_available_nodes", "min_train_nodes", "min_evaluate_nodes",
    "min_available_clients", "min_fit_clients", "min_evaluate_clients",
)  # fmt: skip


class TooFewNodesError(ValueError):
    """An app that waits for more nodes than the simulation has."""


class Watch:
    """Stands in for some of Flower's functions while an app runs.

    Parameters
    ----------
    curves : Curves
        Gets the numbers.
    grid : Gathering
        Is told how many messages of the older interface belong together.
    num_nodes : int
        Nodes of the simulation.
    num_rounds : int, optional
        Rounds in the place of the app's own number.
    """

    def __init__(self, curves: Curves, grid: Gathering, num_nodes: int, num_rounds: int | None) -> None:
        self.curves, self.grid, self.num_nodes, self.num_rounds = curves, grid, num_nodes, num_rounds

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch whatever runs meanwhile."""
        with ExitStack() as stack:
            for kind in _with_subclasses(Strategy):
                if "start" in vars(kind):
                    stack.enter_context(_replaced(kind, "start", self._start))
            for kind in _with_subclasses(legacy.Server):
                if "fit" in vars(kind):
                    stack.enter_context(_replaced(kind, "fit", self._fit))
            for name in ("fit_clients", "evaluate_clients"):
                stack.enter_context(_replaced(legacy, name, self._together))
            stack.enter_context(_replaced(History, "add_loss_centralized", self._loss))
            stack.enter_context(_replaced(History, "add_metrics_centralized", self._metrics))
            yield

    def _begin(self, strategy: Any, given: dict[str, Any]) -> None:
        self.curves.strategy = type(strategy).__name__
        for name in LEAST:
            least = getattr(strategy, name, None)
            if isinstance(least, int) and least > self.num_nodes:
                raise TooFewNodesError(
                    f"the app's {type(strategy).__name__} waits for {name} = {least} nodes, and there are "
                    f"{self.num_nodes}; give --nodes {least}, or more."
                )
        if self.num_rounds is not None and "num_rounds" in given:
            given["num_rounds"] = self.num_rounds
        self.curves.num_rounds = given.get("num_rounds", self.num_rounds)
        self.curves.changed(0)

    def _start(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def watched(strategy: Any, *positional: Any, **keywords: Any) -> Any:
            bound = inspect.signature(start).bind(strategy, *positional, **keywords)
            bound.apply_defaults()
            given = bound.arguments
            self._begin(strategy, given)
            if given.get("evaluate_fn") is not None:
                given["evaluate_fn"] = self._evaluating(given["evaluate_fn"])
            return start(*bound.args, **bound.kwargs)

        return watched

    def _evaluating(self, evaluate: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
        def watched(server_round: int, arrays: Any) -> Any:
            found = evaluate(server_round, arrays)
            self.curves.add("central", server_round, found or {})
            return found

        return watched

    def _fit(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        def watched(server: Any, *positional: Any, **keywords: Any) -> Any:
            bound = inspect.signature(fit).bind(server, *positional, **keywords)
            self._begin(server.strategy, bound.arguments)
            return fit(*bound.args, **bound.kwargs)

        return watched

    def _together(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        """Let all nodes' messages come at the same time."""

        def watched(client_instructions: list[Any], max_workers: int | None, *others: Any, **keywords: Any) -> Any:
            self.grid.expect(len(client_instructions))
            try:
                return ask(client_instructions, max(1, len(client_instructions)), *others, **keywords)
            finally:
                self.grid.expect(0)

        return watched

    def _loss(self, add: Callable[..., None]) -> Callable[..., None]:
        def watched(history: Any, server_round: int, loss: float) -> None:
            self.curves.add("central", server_round, {"loss": loss})
            add(history, server_round, loss)

        return watched

    def _metrics(self, add: Callable[..., None]) -> Callable[..., None]:
        def watched(history: Any, server_round: int, metrics: dict[str, Any]) -> None:
            self.curves.add("central", server_round, metrics)
            add(history, server_round, metrics)

        return watched


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    subclasses: list[type] = kind.__subclasses__()
    for below in subclasses:
        yield from _with_subclasses(below)


@contextmanager
def _replaced(owner: Any, name: str, around: Callable[[Any], Any]) -> Iterator[None]:
    original = vars(owner)[name]
    setattr(owner, name, wraps(original)(around(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)
