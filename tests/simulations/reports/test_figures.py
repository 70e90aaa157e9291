"""Figures: what is drawn, where, and what it is called; asked of matplotlib's objects."""

import textwrap

import numpy as np
import pytest

from simulations.reports.figures.charts import draw_chart
from simulations.reports.figures.data import make_chart
from simulations.reports.figures.heatmap import draw_heatmap, make_heatmap
from simulations.reports.figures.looks import COLOURS
from simulations.reports.figures.pictures import MOST_PANELS, Picture, draw_figures
from tests.simulations.reports.sweeps import made_sweep

ROUNDS = [0, 10, 20]


def figure_of(folder, toml, result, section, **options):
    """Return a sweep and its only figure's section."""
    sweep = made_sweep(folder, toml + "[[figure]]\n" + textwrap.dedent(section), result, **options)
    return sweep, sweep.full.sections.figure[0]


def chart_of(folder, toml, result, section, **options):
    """Return the sheet of curves, lines or bars."""
    chart = make_chart(*figure_of(folder, toml, result, section, **options))
    return draw_chart(chart, chart.panels)


def heatmap_of(folder, toml, result, section, **options):
    """Return a heatmap and its sheet."""
    shown = make_heatmap(*figure_of(folder, toml, result, section, **options))
    return shown, draw_heatmap(shown, shown.panels)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def curves(two_rules):
    """Give the two rules curves: from 10 % to their accuracy."""
    toml, accuracy = two_rules

    def result(labels):
        last = accuracy(labels)
        halves = {"measure/xi": [8, 4, 2], "measure/A": [None, 6, 3]}
        return {
            "max_accuracy": last,
            "evaluated": ROUNDS,
            "accuracy": [0.1, 0.3, last],
            "rounds": ROUNDS,
            "measures": halves,
        }

    return toml, result


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


def test_many_panels_are_shared_out_among_sheets(tmp_path):
    attacks = ", ".join(f'"attack {number}"' for number in range(5))
    toml = f"[parameters]\n[grid]\nalpha = [0.1, 1.0]\nattack = [{attacks}]\ndefense = ['Krum', 'GM']\n"
    section = 'kind = "bars"\nx = "defense"\npanels = ["alpha", "attack"]'
    sweep, only = figure_of(tmp_path, toml, lambda _: 0.5, section)
    pictures = list(draw_figures(sweep, [only]))
    assert [(picture.name, picture.title.rpartition(": ")[2]) for picture in pictures] == [
        ("figure-1-bars", "α = 0.1"),  # noqa: RUF001
        ("figure-1-bars-2", "α = 1"),  # noqa: RUF001
    ]
    single = toml.replace("alpha = [0.1, 1.0]\n", "").replace(attacks, attacks + ", 1, 2, 3, 4, 5")
    sweep, only = figure_of(tmp_path, single, lambda _: 0.5, section.replace('"alpha", ', ""))
    titles = [picture.title.rpartition(": ")[2] for picture in draw_figures(sweep, [only])]
    assert MOST_PANELS == 8
    assert titles == ["part 1 of 2", "part 2 of 2"]


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


def test_axes_of_a_single_label_are_neither_lines_nor_panels(tmp_path, two_rules):
    toml, accuracy = two_rules
    lite = '[lite.grid]\nseed = [1]\nattack = [{ label = "ALIE", attack = "alie" }]\n'
    section = 'kind = "bars"\nx = "defense"\ny = "max-accuracy"\npanels = ["attack"]'
    figure = chart_of(tmp_path, toml + lite, accuracy, section, lite=True)
    assert list(panels(figure)) == [""]
    assert figure.legends == []


def test_axes_that_a_figure_does_not_name_get_panels(tmp_path, curves):
    assert list(panels(chart_of(tmp_path, *curves, 'kind = "curves"\nlines = "attack"'))) == ["Krum", "Median"]


def test_lines_of_one_rule_share_a_colour_where_several_rules_have_variants(tmp_path):
    toml = '[parameters]\n[grid]\ndefense = ["Krum", "NNM + Krum", "GM", "NNM + GM"]\nf = [1, 2]\n'
    section = 'kind = "lines"\nx = "f"\ny = "max-accuracy"\nlines = "defense"'
    (axes,) = panels(chart_of(tmp_path, toml.replace("f = [1, 2]", "num-malicious = [1, 2]"),
                              lambda labels: 0.5, section.replace('"f"', '"num-malicious"'))).values()  # fmt: skip
    krum, nnm_krum, gm, nnm_gm = axes.lines
    assert krum.get_color() == nnm_krum.get_color() != gm.get_color() == nnm_gm.get_color()
    assert krum.get_linestyle() == gm.get_linestyle() != nnm_krum.get_linestyle() == nnm_gm.get_linestyle()


def test_what_nobody_attacks_is_a_thin_dotted_line(tmp_path, two_rules):
    section = 'kind = "lines"\nx = "defense"\ny = "max-accuracy"\nlines = "attack"'
    (axes,) = panels(chart_of(tmp_path, *two_rules, section)).values()
    baseline, attacked, _ = axes.lines
    assert (baseline.get_marker(), baseline.get_color()) == ("None", "0.25")
    assert attacked.get_marker() != "None"


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


def test_figures_that_cannot_be_drawn_are_told(tmp_path, two_rules):
    toml, _ = two_rules
    sections = """
    [[figure]]
    kind = "curves"
    y = "measure/xi"
    [[figure]]
    kind = "lines"
    x = "attack"
    [[figure]]
    kind = "bars"
    x = "defense"
    where = { attack = "SF" }
    [lite.grid]
    seed = [1]
    attack = []
    """
    sweep = made_sweep(tmp_path, toml + sections, lambda labels: 0.5, lite=True)
    assert list(draw_figures(sweep, sweep.full.sections.figure))[:2] == [
        "Figure 1 (curves) is left out: no finished cell has what it shows.",
        "Figure 2 (lines) is left out: here attack is not varied.",
    ]


def test_pictures_are_png_with_a_size_and_a_caption(tmp_path, curves):
    section = 'kind = "curves"\nlines = "defense"\nwhere = { attack = ["ALIE", "SF"] }'
    sweep, section = figure_of(tmp_path, *curves, section)
    (picture,) = draw_figures(sweep, (section,))
    assert isinstance(picture, Picture)
    assert picture.name == "figure-1-curves"
    assert picture.png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (picture.width, picture.height) == (round(5.4 * 96), round(picture.size[1] * 96))
    assert picture.caption == "Bands: one standard deviation over 2 seeds. Only ALIE and SF. Panels by attack."


def test_bars_that_are_missing_are_told_from_zeros(tmp_path, two_rules):
    section = 'kind = "bars"\nx = "attack"\nlines = "defense"'
    missing = [{"attack": "SF", "defense": "Krum"}]
    sweep, section = figure_of(tmp_path, *two_rules, section, leave_out=missing)
    (picture,) = draw_figures(sweep, (section,))
    assert "No bar: no finished cell has it." in picture.caption


def test_panels_of_unfinished_cells_say_so(tmp_path, curves):
    section = 'kind = "curves"\nlines = "defense"\npanels = ["attack"]'
    figure = chart_of(tmp_path, *curves, section, leave_out=[{"attack": "SF"}])
    assert [text.get_text() for text in panels(figure)["SF"].texts] == ["no finished cell"]


def test_kappa_is_smoothed_over_rounds_and_the_caption_says_so(tmp_path, two_rules):
    toml, _ = two_rules
    rounds = list(range(60))  # windows of 3: of 0, 1, 2 the mean is 1, of 57, 58, 59 it is 58
    result = {"rounds": rounds, "measures": {"measure/kappa": rounds}}
    section = 'kind = "curves"\ny = "measure/kappa"\nlines = "defense"'
    figure = chart_of(tmp_path, toml, lambda labels: result, section)
    line = panels(figure)["ALIE"].lines[0]
    assert list(line.get_xdata()) == list(line.get_ydata()) == list(range(1, 60, 3))
    sweep, only = figure_of(tmp_path, toml, lambda labels: result, section)
    (picture,) = draw_figures(sweep, (only,))
    assert "Each point is the mean over 3 rounds." in picture.caption


def test_colours_are_distinct():
    assert len(set(COLOURS)) == len(COLOURS)
