"""Where the time of a strategy goes: stopwatches around flwr_robust's own functions, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from time import perf_counter
from typing import Any
from unittest.mock import patch

READING, GRAM, PLANNING, COMBINING, WRITING, OTHER = "reading", "gram", "n x n", "combining", "writing", "other"
PARTS = (READING, GRAM, PLANNING, COMBINING, WRITING, OTHER)

# What each part is the time of, less what others are called from within it. Replies are read as views:
# the first touch of their bytes counts to the pass that does it.
WATCHED: tuple[tuple[str, str], ...] = (
    ("flwr_robust.strategies.robust:read_replies", READING),
    ("flwr_robust.rules.run:measure", GRAM),
    ("flwr_robust.strategies.robust:run", PLANNING),
    ("flwr_robust.engine.rows:Rows.combine", COMBINING),
    ("flwr_robust.engine.rows:Rows.reduce", COMBINING),
    ("flwr_robust.engine.rows:Rows.scan", COMBINING),
    ("flwr_robust.engine.rows:Rows.row", COMBINING),
    ("flwr_robust.engine.rows:Rows.take", COMBINING),
    ("flwr_robust.engine.lp:squared_lp_distances", COMBINING),
    ("flwr_robust.messages.arrays:Layout.step", WRITING),
)


class Stopwatch:
    """Adds up seconds by part; a part does not count what parts within it take."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._within = [0.0]

    def run(self, part: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `work` and add its own time to a part."""
        self._within.append(0.0)
        start = perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            spent = perf_counter() - start
            self.seconds[part] += spent - self._within.pop()
            self._within[-1] += spent

    def around(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same under the stopwatch."""

        @wraps(work)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return self.run(part, work, *args, **kwargs)

        return watched


@contextmanager
def watching() -> Iterator[Stopwatch]:
    """Put a stopwatch around the functions of `WATCHED`, and take it away afterwards.

    Raises
    ------
    AttributeError
        If one of them is no longer where it was.
    """
    watch = Stopwatch()
    with ExitStack() as stack:
        for place, part in WATCHED:
            module, _, path = place.partition(":")
            owner: Any = import_module(module)
            *outer, name = path.split(".")
            for step in outer:
                owner = getattr(owner, step)
            stack.enter_context(patch.object(owner, name, watch.around(part, getattr(owner, name))))
        yield watch


def split_time(work: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds of each part of a call; what no stopwatch saw is `OTHER`."""
    with watching() as watch:
        watch.run(OTHER, work)
    return watch.seconds
