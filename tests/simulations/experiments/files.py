"""Small experiment files, and the cells of an experiment."""

from pathlib import Path

from simulations.sweep.cells import build_cells

TINY = """
[federation]
num-supernodes = 5
[parameters]
num-malicious = 1
"""


def cells_of(experiment):
    return build_cells(experiment, Path("runs"))


def labels(experiment):
    return [tuple(cell.labels.values()) for cell in cells_of(experiment)]
