"""Scatters: a point for each defence, with accuracy against attack success."""

import numpy as np
import pytest

from simulations.reports.figures.pictures import Picture, draw_figures
from simulations.reports.figures.scatter import draw_scatter, make_scatter
from tests.simulations.reports.figures.drawn import figure_of, legend, panels

TOML = """
[parameters]
num-malicious = 2
[grid]
seed = [1, 2]
attack = [{ label = "BadNets", attack = "badnets" }, { label = "DBA", attack = "dba" }]
defense = [
    { label = "no attack", defense = "mean", num-malicious = 0 },
    { label = "Mean", defense = "mean" },
    { label = "Median", defense = "median" },
]
"""
SECTION = 'kind = "scatter"\npoints = "defense"\npanels = ["attack"]'
RATES = {"no attack": 0.05, "Mean": 1.0, "Median": 0.4}


def result(labels):
    """Seeds lie 10 points apart around 80 % accuracy."""
    return {"final_accuracy": 0.75 + 0.1 * (labels["seed"] - 1), "final_attack_success_rate": RATES[labels["defense"]]}


def test_each_defence_is_a_point_in_each_panel(tmp_path):
    shown = make_scatter(*figure_of(tmp_path, TOML, result, SECTION))
    assert [panel.title for panel in shown.panels] == ["BadNets", "DBA"]
    for panel in shown.panels:
        assert [(point.label, point.y) for point in panel.points] == [
            ("no attack", pytest.approx(5.0)),
            ("Mean", pytest.approx(100.0)),
            ("Median", pytest.approx(40.0)),
        ]
        for point in panel.points:
            assert point.x == pytest.approx(80.0)
            assert point.spread == pytest.approx((np.std([75, 85], ddof=1), 0.0))
            assert point.seeds == 2
    assert shown.styles["no attack"]["marker"] == "*"
    assert len({style["marker"] for style in shown.styles.values()}) == 3


def test_the_sheet(tmp_path):
    shown = make_scatter(*figure_of(tmp_path, TOML, result, SECTION))
    figure = draw_scatter(shown, shown.panels)
    figure.draw_without_rendering()
    assert list(panels(figure)) == ["BadNets", "DBA"]
    assert legend(figure) == ["no attack", "Mean", "Median"]
    assert figure.get_supxlabel() == "Final test accuracy (%)"
    assert figure.get_supylabel() == "Final attack success rate (%)"
    for axes in panels(figure).values():
        low, high = axes.get_ylim()
        assert low < 0
        assert high > 100


def test_points_without_cells_are_left_out(tmp_path):
    missing = [{"defense": "Median", "attack": "DBA"}]
    shown = make_scatter(*figure_of(tmp_path, TOML, result, SECTION, leave_out=missing))
    assert [len(panel.points) for panel in shown.panels] == [3, 2]


def test_pictures_and_their_words(tmp_path):
    sweep, section = figure_of(tmp_path, TOML, result, SECTION)
    (picture,) = draw_figures(sweep, [section])
    assert isinstance(picture, Picture)
    assert picture.title == "Final attack success rate against final test accuracy, by defence"
    assert picture.caption == "Whiskers: one standard deviation over 2 seeds. Panels by attack."


def test_without_a_rate_there_is_no_picture(tmp_path):
    sweep, section = figure_of(tmp_path, TOML, lambda labels: 0.5, SECTION)
    (why,) = draw_figures(sweep, [section])
    assert why == "Figure 1 (scatter) is left out: no finished cell has what it shows."
