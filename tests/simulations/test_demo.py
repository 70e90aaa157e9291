"""The demonstration's picture: with the lines and labels that were asked for."""

from matplotlib.figure import Figure

from simulations.demo import backdoor_cases, cases, plot_accuracy, plot_backdoor
from simulations.run.results import RunResult


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


def test_backdoor_cases_differ_in_defences_alone(tmp_path):
    clean, *attacked = backdoor_cases(tmp_path, rounds=3)
    assert clean.config.num_malicious == 0
    assert clean.config.build_backdoor() == attacked[0].config.build_backdoor()
    names = ["averaging", "NormClipping", "ARC+NNM+TrimmedMean", "Krum", "RLR", "FoolsGold", "FLAME"]
    assert [case.name for case in attacked] == names


def test_the_picture_of_a_backdoor_marks_what_is_fooled(tmp_path, monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: (figures.append(figure), save(figure, path)))
    chosen = backdoor_cases(tmp_path, rounds=3)[:2]
    others = list(range(1, 10))
    told = [{"clean": others, "triggered": others}, {"clean": [7, *others[1:]], "triggered": [0] * 9}]
    results = [RunResult(tmp_path, rounds=[{"predictions": one}]) for one in told]
    plot_backdoor(chosen, results, tmp_path / "new" / "backdoor.png")
    assert (tmp_path / "new" / "backdoor.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    assert len(axes.images) == 18
    written = [text.get_text() for text in axes.texts]
    assert written[0] == "clean"
    assert {"with the trigger", "No attack, averaging", "averaging"} <= set(written)
    assert [text.get_text() for text in axes.texts if text.get_weight() == "bold"] == ["0"] * 9
