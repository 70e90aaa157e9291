"""Colours."""

from simulations.reports.figures.style import COLOURS


def test_colours_are_distinct():
    assert len(set(COLOURS)) == len(COLOURS)
