"""Pictures of fates: a coloured cell for each node and round."""

from pathlib import Path

import numpy as np
import pytest

from flwr_robust.record.fate_plot import LOOKS, percent, plot_fates
from flwr_robust.record.fates import Fate, make_fates
from tests.record.runs import some_run


def drawn_colours(figure):
    """The colours of the cells as they are drawn, row by row."""
    (axes,) = figure.axes
    mesh = axes.collections[0]
    values = np.asarray(mesh.get_array())
    return (255 * mesh.cmap(mesh.norm(values))[..., :3]).round().astype(int)


@pytest.mark.parametrize(("nodes", "rounds"), [(17, 200), (5, 3), (1, 1), (300, 2)])
def test_a_picture_has_a_cell_of_the_fates_colour_for_each_node_and_round(tmp_path, figures, nodes, rounds):
    reports, known = some_run(1, nodes=nodes, malicious=nodes // 4, rounds=rounds)
    run = make_fates(reports, Path("x.jsonl"), "a run", known)
    path = plot_fates(run, tmp_path / "new" / "deep" / "x.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    colours = {fate: [int(look[0][k : k + 2], 16) for k in (1, 3, 5)] for fate, look in LOOKS.items()}
    expected = [[colours[Fate(value)] for value in row] for row in run.fates]
    assert drawn_colours(figure).tolist() == expected
    (axes,) = figure.axes
    # No cell is cut off, and the first node is on top.
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, rounds - 0.5), (nodes - 0.5, -0.5))
    texts = {text.get_text() for text in axes.texts}
    assert ("malicious" in texts) == (nodes // 4 > 0)
    assert ("skipped" in texts) == bool(run.skipped)
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {LOOKS[fate][1] for fate in Fate if fate in run.fates}
    caught = percent(run.rates.tpr)
    assert f"malicious updates caught {caught}, honest ones lost" in axes.get_title(loc="left")
    width, height = figure.get_size_inches()
    assert 6 <= width <= 15
    assert 2 <= height <= 21


def test_colours_of_fates_are_distinct():
    assert set(LOOKS) == set(Fate)
    assert len({look for look, _ in LOOKS.values()}) == len({text for _, text in LOOKS.values()}) == len(Fate)
