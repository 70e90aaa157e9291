"""The table."""

import pytest
from rich.console import Console

from simulations.bench import cases
from simulations.bench.measure import Bench
from simulations.bench.messages import Problem
from simulations.bench.report import tables


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_the_terminal(width):
    with cases.quiet():
        measured = Bench(Problem(5, 1000, 1), cases.all_cases(["ARC+NNM+GeometricMedian", "Median"]), 1, 1, 60.0)
        list(measured.run())
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(tables(measured, width))
    text = capture.get()
    assert "ARC+NNM+GeometricMedian" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
