"""Which axes are lines, which are panels, and how lines look."""

from tests.simulations.reports.figures.drawn import chart_of, panels


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
