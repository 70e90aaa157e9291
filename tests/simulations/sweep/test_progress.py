"""What a sweep shows while it goes on."""

import io
import re
from types import SimpleNamespace

from rich.console import Console

from simulations.sweep.cells import make_plan
from simulations.sweep.progress import SweepProgress
from tests.simulations.sweep.fakes import EXPERIMENT


def test_a_terminal_shows_cells_rounds_and_time_left(sweep):
    cells = make_plan(str(sweep.experiment)).cells
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=120)
    with SweepProgress(console, cells, cells[1:]) as progress:
        progress.show(1, cells[1], 1)
        progress._bars.refresh()
        shown = console.file.getvalue()
        assert "1 of 3 cells are done already." in shown
        assert re.search(r"Cells .* 1/3 cells .* left", shown)
        assert re.search(r"rate = middle .* 1/2 rounds", shown)
        progress.finished(1, cells[1], {"error": "ValueError: [no] data"})
        assert "[2/3] rate = middle: failed: ValueError: [no] data" in console.file.getvalue()


def test_time_left_is_that_of_the_rounds_so_far(sweep, monkeypatch):
    sweep.experiment.write_text(EXPERIMENT.replace("num-rounds = 2", "num-rounds = 1000"))
    cells = make_plan(str(sweep.experiment)).cells
    clock = SimpleNamespace(now=100.0)
    console = Console(file=io.StringIO())
    with SweepProgress(console, cells, cells) as progress:
        progress._bars.get_time = lambda: clock.now
        for task in progress._bars.tasks:
            task._get_time = lambda: clock.now
        progress.show(1, cells[0], 0)
        assert progress._time_left == "time left unknown"
        clock.now += 60.0  # until the session has started
        times = []
        for rounds, seconds in ((1, 0.0), (11, 5.0), (901, 445.0)):
            clock.now += seconds
            progress.show(1, cells[0], rounds)
            times.append(progress._time_left)
        assert times[1:] == ["about 25 min left", "about 18 min left"]  # half a second a round
