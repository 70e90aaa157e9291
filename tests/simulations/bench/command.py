"""The command on small sizes."""

from typer.testing import CliRunner

from simulations.cli import app

N, D, F = 7, 4000, 1


def bench(folder, *arguments):
    sizes = ["--n", N, "--d", D, "--f", F, "--repeats", 1, "--out", folder]
    return CliRunner().invoke(app, ["bench", *map(str, [*sizes, *arguments])], env={"COLUMNS": "100"})
