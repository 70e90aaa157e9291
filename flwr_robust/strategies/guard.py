"""What `start` puts between a strategy and its nodes, whatever subclasses override; and strategies led by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from logging import ERROR
from typing import Any, TypeVar, cast

from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from flwr_robust.engine.device import Device
from flwr_robust.messages.grid import GuardedGrid
from flwr_robust.messages.replies import Sent
from flwr_robust.record.report import Record
from flwr_robust.strategies.exclusion import Exclusion
from flwr_robust.strategies.options import Reading, WrapperOptions, threads_and_device

Method = TypeVar("Method", bound=Callable[..., Any])


# ---------------------------------------------------------------- what was sent


def guarded(start: Method) -> Method:
    """Give a `start` the guarded grid in the place of the one that it is called with."""

    @wraps(start)
    def guarding(self: Any, *positional: Any, **keywords: Any) -> Any:
        grid = next((value for value in (*positional, *keywords.values()) if isinstance(value, Grid)), None)
        if grid is None:
            return start(self, *positional, **keywords)
        with self._guarding(grid) as guard:
            given = [guard if value is grid else value for value in positional]
            return start(self, *given, **{name: guard if v is grid else v for name, v in keywords.items()})

    return cast(Method, guarding)


def noted(configure_train: Method) -> Method:
    """Take note of the model that a round starts from, whatever a `configure_train` makes of it."""

    @wraps(configure_train)
    def noting(self: Any, server_round: int, arrays: ArrayRecord, *others: Any, **keywords: Any) -> Any:
        if self._guard is not None:
            self._guard.model = arrays
        return configure_train(self, server_round, arrays, *others, **keywords)

    return cast(Method, noting)


class Hooked:
    """Guards what subclasses override: their `start`, and the model that their `configure_train` is given."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, guard in (("start", guarded), ("configure_train", noted)):
            if name in cls.__dict__:
                setattr(cls, name, guard(cls.__dict__[name]))


class Guarded(Hooked):
    """A strategy whose `start` puts a `GuardedGrid` between itself and the nodes.

    Attributes
    ----------
    reading : Reading
        How replies are read.
    record : Record
        Of the nodes' fates.
    threads : int or None
        Threads that aggregate; None for the default.
    device : Device
        Where blocks are aggregated.
    exclusion : Exclusion
        Of nodes that are not asked to train.
    sent, sent_evaluate : Sent
        What was sent where no guarded grid saw it: to whom, and which model.
    """

    reading: Reading
    record: Record
    threads: int | None
    device: Device
    exclusion: Exclusion
    sent: Sent
    sent_evaluate: Sent
    _guard: GuardedGrid | None = None

    def take_options(self, options: WrapperOptions, owner: str) -> None:
        """Change what these options name: a wrapper's are those of the strategy in it.

        Raises
        ------
        ValueError
            If an option has a value that makes no sense; the text names the owner.
        """
        self.threads, self.device = threads_and_device(options, owner, self.threads, self.device)
        self.reading = self.reading.changed_by(options, owner)
        self.record = self.record.changed_by(options, owner)
        self.exclusion = Exclusion(self.record.suspicion, self._num_malicious, self._accepts)

    def _num_malicious(self, n: int) -> int:
        """Return how many of n nodes are to be tolerated."""
        raise NotImplementedError

    def _accepts(self, n: int) -> bool:
        """Whether n replies are enough."""
        raise NotImplementedError

    @contextmanager
    def _guarding(self, grid: Grid) -> Iterator[GuardedGrid]:
        """Take note of all that passes the grid in a run, and say in the end if nothing was trained."""
        if self._guard is not None:
            yield self._guard
            return
        self.record.require_writable()
        before = self.record.num_trained, self.record.num_skipped
        self._guard = GuardedGrid(grid, self.reading.max_reply_bytes)
        try:
            yield self._guard
        finally:
            self._guard = None
        skipped = self.record.num_skipped - before[1]
        if skipped and self.record.num_trained == before[0]:
            log(ERROR, "No round of this run was trained: all %d were skipped, the model is the initial one", skipped)


# ---------------------------------------------------------------- a strategy led by another

# What Flower's loop calls.
CALLED = ("summary", "configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")


def has_flowers_start(strategy: Strategy) -> bool:
    """Whether a strategy's `start` is Flower's loop, also that of what it holds."""
    owner = next(kind for kind in type(strategy).__mro__ if "start" in vars(kind))
    if "start" in vars(strategy) or not (owner is Strategy or owner.__module__.startswith("flwr_robust.")):
        return False
    held = getattr(strategy, "strategy", None)
    return not isinstance(held, Strategy) or has_flowers_start(held)


def own_method(strategy: Strategy, name: str) -> Callable[..., Any]:
    """Return a method of a strategy, also while another one's stands in its place."""
    method = getattr(strategy, name)
    return cast(Callable[..., Any], getattr(method, "original", method))


@contextmanager
def in_the_place_of(strategy: Strategy, leader: Strategy) -> Iterator[None]:
    """Let a strategy's `start` call the leader's methods, which find its own ones as their `original`."""
    before = {name: vars(strategy).get(name) for name in CALLED}
    for name in CALLED:
        vars(strategy)[name] = _leaders(leader, name, getattr(strategy, name))
    try:
        yield
    finally:
        for name, own in before.items():
            if own is None:
                del vars(strategy)[name]
            else:
                vars(strategy)[name] = own


def _leaders(leader: Strategy, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*positional: Any, **keywords: Any) -> Any:
        return getattr(leader, name)(*positional, **keywords)

    call.original = original  # type: ignore[attr-defined]
    return call
