"""Curves, lines and bars: what is drawn, where, and what it is called."""

import numpy as np

from tests.simulations.reports.figures.conftest import ROUNDS
from tests.simulations.reports.figures.drawn import chart_of, legend, panels


def test_curves_have_a_panel_each_attack_a_line_each_rule_and_bands_over_seeds(tmp_path, curves):
    figure = chart_of(tmp_path, *curves, 'kind = "curves"\nlines = "defense"\npanels = ["attack"]')
    drawn = panels(figure)
    assert list(drawn) == ["No attack", "ALIE", "SF"]
    assert legend(figure) == ["Krum", "Median"]
    lines = {line.get_label(): line for line in drawn["ALIE"].lines}
    assert list(lines["Krum"].get_xdata()) == ROUNDS
    np.testing.assert_allclose(lines["Krum"].get_ydata(), [10, 30, 55])
    band = drawn["ALIE"].collections[0].get_datalim(drawn["ALIE"].transData)
    np.testing.assert_allclose(band.y1, 55 + np.sqrt(50))
    assert (figure._supxlabel.get_text(), figure._supylabel.get_text()) == ("Round", "Test accuracy (%)")
    assert lines["Krum"].get_color() != lines["Median"].get_color()
    assert lines["Krum"].get_linestyle() != lines["Median"].get_linestyle()
    bottom, top = drawn["ALIE"].get_ylim()
    assert bottom < 10
    assert 97 < top <= 101


def test_a_sheet_is_as_wide_as_a_phone_can_show_with_two_panels_beside_each_other(tmp_path, curves):
    figure = chart_of(tmp_path, *curves, 'kind = "curves"\nlines = "defense"\npanels = ["attack"]')
    figure.draw_without_rendering()
    places = [axes.get_position() for axes in panels(figure).values()]
    assert len({round(place.y0, 3) for place in places}) == len({round(place.x0, 3) for place in places}) == 2
    # A phone shows about 4 inches: letters of 9 points get no smaller than 6.
    assert figure.get_figwidth() < 4 * 9 / 6


def test_several_measures_share_a_panel_and_where_limits_the_cells(tmp_path, curves):
    figure = chart_of(
        tmp_path,
        *curves,
        """
        kind = "curves"
        y = ["measure/xi", "measure/A"]
        lines = "attack"
        where = { defense = "Krum", attack = ["ALIE", "SF"] }
        """,
    )
    (axes,) = panels(figure).values()
    assert legend(figure) == ["ALIE, ξ", "ALIE, A", "SF, ξ", "SF, A"]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["SF, A"].get_xdata()) == [10, 20]
    assert list(lines["SF, A"].get_ydata()) == [6, 3]
    # Lines of one attack share a colour, those of one measure the dashes.
    assert lines["SF, A"].get_color() == lines["SF, ξ"].get_color() != lines["ALIE, A"].get_color()


def test_lines_show_the_worst_case_over_an_axis(tmp_path, two_rules):
    section = 'kind = "lines"\nx = "defense"\ny = "max-accuracy"\nworst-case = "attack"'
    (axes,) = panels(chart_of(tmp_path, *two_rules, section)).values()
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [55, 50])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["Krum", "Median"]


def test_bars_stand_in_groups_with_whiskers_and_numbers(tmp_path, two_rules):
    section = 'kind = "bars"\nx = "attack"\ny = "max-accuracy"\nlines = "defense"'
    figure = chart_of(tmp_path, *two_rules, section)
    (axes,) = panels(figure).values()
    krum, median = (container for container in axes.containers if hasattr(container, "patches"))
    np.testing.assert_allclose([bar.get_height() for bar in krum], [95, 55, 85])
    np.testing.assert_allclose([bar.get_height() for bar in median], [97, 50, 70])
    assert all(left.get_x() < right.get_x() < left.get_x() + 0.5 for left, right in zip(krum, median, strict=True))
    assert {"95.0", "55.0", "70.0"} <= {text.get_text() for text in axes.texts}
    assert axes.get_ylim()[0] == 0
    assert legend(figure) == ["Krum", "Median"]


def test_bars_round_as_tables_do(tmp_path, two_rules):
    toml, _ = two_rules
    section = 'kind = "bars"\nx = "attack"\ny = "max-accuracy"\nlines = "defense"'
    (axes,) = panels(chart_of(tmp_path, toml, lambda labels: 0.4965, section)).values()
    assert {text.get_text() for text in axes.texts} == {"49.7"}  # 49.65 is a little less in binary


def test_what_nobody_attacks_is_a_thin_dotted_line(tmp_path, two_rules):
    section = 'kind = "lines"\nx = "defense"\ny = "max-accuracy"\nlines = "attack"'
    (axes,) = panels(chart_of(tmp_path, *two_rules, section)).values()
    baseline, attacked, _ = axes.lines
    assert (baseline.get_marker(), baseline.get_color()) == ("None", "0.25")
    assert attacked.get_marker() != "None"


def test_panels_of_unfinished_cells_say_so(tmp_path, curves):
    section = 'kind = "curves"\nlines = "defense"\npanels = ["attack"]'
    figure = chart_of(tmp_path, *curves, section, leave_out=[{"attack": "SF"}])
    assert [text.get_text() for text in panels(figure)["SF"].texts] == ["no finished cell"]
