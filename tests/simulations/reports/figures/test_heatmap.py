"""Heatmaps: what is drawn, where, and what it is called."""

import numpy as np

from tests.simulations.reports.figures.drawn import heatmap_of, panels

HEATMAP = """
[parameters]
attack = "label-flip"
num-malicious = 1
[grid]
seed = [1, 2]
alpha = [1.0, 0.1]
probability = [{ label = 0.5 }, { label = 1.0 }]
defense = ["Mean", "Median"]
"""


def best_is_mean_below(labels):
    """The mean is best where alpha is 0.1, the median else; both are alike for alpha 1 and probability 0.5."""
    if (labels["alpha"], labels["probability"]) == (1.0, 0.5):
        return 0.8
    return 0.9 if (labels["defense"] == "Mean") == (labels["alpha"] == 0.1) else 0.3


def test_a_heatmap_names_the_best_rule_of_each_block(tmp_path):
    section = 'kind = "heatmap"\nx = "probability"\ny = "alpha"\nbest = "defense"'
    shown, figure = heatmap_of(tmp_path, HEATMAP, best_is_mean_below, section)
    (panel,) = shown.panels
    texts = [["80.0\nMean\nMedian", "90.0\nMedian"], ["90.0\nMean", "90.0\nMean"]]
    assert panel.texts.to_numpy().tolist() == texts
    (axes,) = panels(figure).values()
    assert [text.get_text() for text in axes.texts] == [text for row in texts for text in row]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "0.1"]
    figure.draw_without_rendering()
    best, median, below, mean = axes.collections[0].get_facecolors()
    np.testing.assert_array_equal(below, mean)
    np.testing.assert_array_equal(below, best)
    assert not np.allclose(median, mean)


def test_blocks_of_unfinished_cells_have_a_dash(tmp_path):
    section = 'kind = "heatmap"\nx = "probability"\ny = "alpha"\nbest = "defense"'
    missing = [{"alpha": 0.1, "probability": 1.0}]
    shown, figure = heatmap_of(tmp_path, HEATMAP, best_is_mean_below, section, leave_out=missing)
    assert shown.panels[0].colours.isna().to_numpy().tolist() == [[False, False], [False, True]]
    (axes,) = panels(figure).values()
    assert axes.texts[-1].get_text() == "–"  # noqa: RUF001


def test_a_heatmap_without_best_has_a_panel_each_rule_and_a_scale(tmp_path):
    section = 'kind = "heatmap"\nx = "probability"\ny = "alpha"\npanels = ["defense"]'
    _, figure = heatmap_of(tmp_path, HEATMAP, best_is_mean_below, section)
    assert list(panels(figure)) == ["Mean", "Median", ""]  # the last one is the scale
    assert figure.axes[-1].get_ylabel() == "Maximal test accuracy (%)"
