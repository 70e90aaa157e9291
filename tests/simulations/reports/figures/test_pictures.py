"""Pictures: their files, titles and captions, and why there is none."""

from simulations.reports.figures.pictures import MOST_PANELS, Picture, draw_figures
from tests.simulations.reports.figures.drawn import chart_of, figure_of, panels
from tests.simulations.reports.sweeps import made_sweep


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
