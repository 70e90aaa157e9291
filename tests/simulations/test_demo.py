"""The demonstration's picture: with the lines and labels that were asked for."""

from matplotlib.figure import Figure

from simulations.demo import cases, plot_accuracy


def test_picture_holds_the_curves_in_percent(tmp_path, monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: (figures.append(figure), save(figure, path)))
    curves = {"defended": ([0, 1, 2], [0.1, 0.5, 0.9]), "undefended": ([0, 2], [0.1, 0.05])}
    plot_accuracy(curves, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label() in curves}
    assert drawn == {"defended": [10, 50, 90], "undefended": [10, 5]}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Round", "Test accuracy (%)")
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == list(curves)


def test_cases_name_the_rules_as_tables_do(tmp_path):
    names = [case.name for case in cases(tmp_path, rounds=3)]
    assert names == ["No attack, averaging", "Fall of Empires, averaging", "Fall of Empires, ARC+NNM+TrimmedMean"]
