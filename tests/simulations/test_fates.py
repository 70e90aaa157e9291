"""What became of each node: read back, arranged, counted, drawn, and shown by the console command."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flwr_robust.record.report import NodeReport, RoundReport, read_reports
from simulations.cli import app
from simulations.config import RunConfig
from simulations.fate_plot import LOOKS, percent, plot_fates
from simulations.fates import Fate, Node, ReportError, fate_of, find_runs, make_fates, read_runs
from simulations.results import RunRecorder, reports_path

BIG = 2**63 + 11  # Flower's node ids take 64 bits

FATES = {
    Fate.QUARANTINED: NodeReport("quarantined", "NaN"),
    Fate.ZERO_WEIGHT: NodeReport("accepted", weight=0.0, clip_factor=0.5),
    Fate.PARTLY: NodeReport("accepted", used=0.75, clip_factor=0.5),
    Fate.CLIPPED: NodeReport("accepted", weight=0.25, clip_factor=0.5),
    Fate.USED: NodeReport("accepted", weight=0.25, clip_factor=1.0),
}
SHARES = {Fate.QUARANTINED: 1.0, Fate.ZERO_WEIGHT: 1.0, Fate.PARTLY: 0.25, Fate.CLIPPED: 0.0, Fate.USED: 0.0}


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.name)
def test_each_fate_is_told_from_a_nodes_report(fate):
    assert fate_of(FATES[fate]) is fate
    assert FATES[fate].left_out == SHARES[fate]
    skipped = Fate.QUARANTINED if fate is Fate.QUARANTINED else Fate.SKIPPED
    assert fate_of(FATES[fate], skipped=True) is skipped


def test_weights_that_are_not_told_drop_nobody():
    assert fate_of(NodeReport("accepted")) is Fate.USED
    assert fate_of(NodeReport("accepted", used=0.0)) is Fate.ZERO_WEIGHT
    assert fate_of(NodeReport("accepted", used=1.0)) is Fate.USED


def test_a_report_comes_back_from_its_json_line(tmp_path):
    report = RoundReport(3, "Krum(f=1)", 2, 1, {BIG: FATES[Fate.USED], 7: FATES[Fate.QUARANTINED]}, [(7, "again")])
    report.skipped, report.excluded, report.threshold, report.drawn = "why", [5], 1.5, ["x"]
    report.append_to(tmp_path / "r.jsonl")
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write('{"round": 4, "cha')  # a run that is still writing
    assert list(read_reports(tmp_path / "r.jsonl")) == [report]


@pytest.mark.parametrize("line", ["[]", "{}", '{"nodes": {"x": {}}}', '{"nodes": {}, "colour": 1}', "nonsense"])
def test_lines_that_are_no_reports_are_named(tmp_path, line):
    path = tmp_path / "r.jsonl"
    RoundReport(1, "Mean()", 0, 0).append_to(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"r.jsonl, line 2: "):
        list(read_reports(path))


def some_run(seed, nodes=9, malicious=3, rounds=12):
    """A random run: the reports, and what is known of the nodes."""
    rng = random.Random(seed)
    ids = [rng.getrandbits(64) for _ in range(nodes)]
    known = {node: Node(node, place, place >= nodes - malicious) for place, node in enumerate(ids)}
    reports = []
    for current in range(1, rounds + 1):
        report = RoundReport(current, "MultiKrum(f=3)", nodes, malicious)
        report.skipped = "too few" if rng.random() < 0.2 else None
        for node in ids:
            draw = rng.choice([*FATES, None, "excluded"])
            if draw == "excluded":
                report.excluded.append(node)
            elif draw is not None:
                report.nodes[node] = FATES[draw]
        reports.append(report)
    return reports, known


def slow_rate(reports, nodes):
    """Count updates one by one: those that were left out, over those that were decided on."""
    out, decided = 0.0, 0
    for report in reports:
        for node in nodes:
            if node in report.excluded:
                out, decided = out + 1, decided + 1
            elif node in report.nodes:
                told = report.nodes[node]
                if told.status == "quarantined":
                    out, decided = out + 1, decided + 1
                elif report.skipped is None:
                    decided += 1
                    out += (1 - told.used) if told.used is not None else (told.weight == 0)
    return out / decided if decided else None


@pytest.mark.parametrize("seed", range(20))
def test_rates_are_those_of_counting_updates(seed):
    reports, known = some_run(seed)
    run = make_fates(reports, Path("x.jsonl"), "x", known)
    bad = [node for node in known if known[node].malicious]
    good = [node for node in known if not known[node].malicious]
    assert (run.rates.caught, run.rates.lost) == pytest.approx((slow_rate(reports, bad), slow_rate(reports, good)))
    for report in reports:
        rates = run.rates_in(report.round)
        assert rates.caught == pytest.approx(slow_rate([report], bad))
        assert rates.lost == pytest.approx(slow_rate([report], good))


def test_rates_of_a_run_that_can_be_counted_by_hand():
    ids = [10, 11, 12, 13]
    known = {node: Node(node, place, place >= 2) for place, node in enumerate(ids)}
    used, zero, bad = FATES[Fate.USED], FATES[Fate.ZERO_WEIGHT], FATES[Fate.QUARANTINED]
    reports = [
        RoundReport(1, "Krum(f=2)", 4, 2, {10: used, 11: used, 12: zero, 13: bad}),
        RoundReport(2, "Krum(f=2)", 3, 2, {10: zero, 11: used, 12: used}, excluded=[13]),
        RoundReport(3, "Krum(f=2)", 1, 2, {10: NodeReport("accepted"), 12: bad}, skipped="too few"),
    ]
    run = make_fates(reports, Path("x.jsonl"), "x", known)
    assert (run.rates.caught, run.rates.lost) == (4 / 5, 1 / 4)
    assert (run.rates_in(2).caught, run.rates_in(2).lost) == (1 / 2, 1 / 2)
    assert (run.rates_in(3).caught, run.rates_in(3).lost) == (1.0, None)
    assert run.skipped == (3,)
    assert [node.node_id for node in run.quarantined] == [12, 13]
    assert run.fates.tolist() == [
        [Fate.USED, Fate.ZERO_WEIGHT, Fate.SKIPPED],
        [Fate.USED, Fate.USED, Fate.ABSENT],
        [Fate.ZERO_WEIGHT, Fate.USED, Fate.QUARANTINED],
        [Fate.QUARANTINED, Fate.EXCLUDED, Fate.ABSENT],
    ]


def test_malicious_nodes_are_grouped_below_and_unknown_ones_come_last():
    known = {50: Node(50, 1, False), 20: Node(20, 2, True), 90: Node(90, 0, False)}
    reports = [RoundReport(1, "Mean()", 2, 0, {3: FATES[Fate.QUARANTINED], 20: FATES[Fate.USED]})]
    run = make_fates(reports, Path("x.jsonl"), "x", known)
    assert [node.node_id for node in run.nodes] == [90, 50, 20, 3]
    # An intruder that nothing is known of counts neither as malicious nor as honest.
    assert (run.rates.caught, run.rates.lost) == (0.0, None)
    assert [node.label for node in run.nodes] == ["0", "1", "2", "3"]
    assert Node(BIG).label == "9223372…"


def recorded(folder, attack="foe", rounds=4, defense="multi-krum"):
    """A run's files as the simulation leaves them."""
    config = RunConfig(out_dir=str(folder), num_malicious=2, attack=attack, defense=defense, num_rounds=rounds)
    ids = [BIG + place for place in (4, 2, 0, 3, 1)]
    recorder = RunRecorder(config, 5, {node: place for place, node in enumerate(ids)})
    for current in range(1, rounds + 1):
        report = RoundReport(current, "MultiKrum(f=2)", 5, 2)
        report.nodes = {node: FATES[Fate.ZERO_WEIGHT if node in ids[3:] else Fate.USED] for node in ids}
        report.append_to(recorder.reports_path)
        recorder.round(current, 0.5, 1.0)
    recorder.end()
    return recorder.path


@pytest.mark.parametrize("which", ["results", "reports", "folder", "reports' folder"])
def test_a_simulations_run_is_found_by_any_of_its_paths(tmp_path, which):
    results = recorded(tmp_path)
    paths = {"results": results, "reports": reports_path(results), "folder": tmp_path, "reports' folder": None}
    (run,), passed_over = find_runs([paths[which] or reports_path(results).parent])
    assert passed_over == []
    assert run.name == results.stem
    assert run.path == results
    assert [(node.partition, node.malicious) for node in run.nodes] == [(p, p >= 3) for p in range(5)]
    assert (run.rates.caught, run.rates.lost) == (1.0, 0.0)


def test_where_nobody_attacks_all_are_honest(tmp_path):
    (run,) = read_runs(recorded(tmp_path, attack="none"))
    assert not any(node.malicious for node in run.nodes)
    assert (run.rates.caught, run.rates.lost) == (None, 2 / 5)


def test_a_run_that_is_done_again_starts_its_reports_anew(tmp_path):
    recorded(tmp_path)
    (run,) = read_runs(recorded(tmp_path))
    assert run.rounds == (1, 2, 3, 4)


def test_runs_that_one_report_path_was_given_to_are_told_apart(tmp_path):
    path = tmp_path / "mine.jsonl"
    for rounds in (3, 2):
        for report in some_run(rounds, rounds=rounds)[0]:
            report.append_to(path)
    runs = read_runs(path)
    assert [(run.name, run.rounds) for run in runs] == [("mine", (1, 2, 3)), ("mine-2", (1, 2))]
    assert all(run.rates.caught is None and run.rates.lost is None for run in runs)


def test_paths_without_runs_are_refused_with_a_reason(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere.jsonl cannot be read"):
        find_runs([tmp_path / "nowhere.jsonl"])
    with pytest.raises(ReportError, match=r"holds no runs: give a folder"):
        find_runs([tmp_path])
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ReportError, match=r"holds no runs.*other.jsonl, line 1: this is no report"):
        find_runs([tmp_path])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ReportError, match="no complete round yet"):
        find_runs([tmp_path / "empty.jsonl"])
    results = recorded(tmp_path)
    runs, passed_over = find_runs([tmp_path])
    assert len(runs) == 1
    assert len(passed_over) == 2
    reports_path(results).unlink()
    with pytest.raises(ReportError, match="has no reports beside it"):
        find_runs([results])


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
    path = plot_fates(run, tmp_path / "new" / "x.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    colours = {fate: [int(look[0][k : k + 2], 16) for k in (1, 3, 5)] for fate, look in LOOKS.items()}
    expected = [[colours[Fate(value)] for value in row] for row in run.fates]
    assert drawn_colours(figure).tolist() == expected
    (axes,) = figure.axes
    texts = {text.get_text() for text in axes.texts}
    assert ("malicious" in texts) == (nodes // 4 > 0)
    assert ("skipped" in texts) == bool(run.skipped)
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {LOOKS[fate][1] for fate in Fate if fate in run.fates}
    caught = percent(run.rates.caught)
    assert f"malicious updates caught {caught}, honest ones lost" in axes.get_title(loc="left")
    width, height = figure.get_size_inches()
    assert 6 <= width <= 15
    assert 2 <= height <= 21


def test_colours_of_fates_are_distinct():
    assert set(LOOKS) == set(Fate)
    assert len({look for look, _ in LOOKS.values()}) == len({text for _, text in LOOKS.values()}) == len(Fate)


def shown(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "240"})


def test_the_command_draws_beside_the_results_and_prints_the_rates(tmp_path):
    results = recorded(tmp_path)
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    result = shown(tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / f"{results.stem}-nodes.png").exists()
    (row,) = [line for line in result.output.splitlines() if "MultiKrum" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [results.stem, "MultiKrum(f=2)", "4", "0", "0", "100.0 %", "0.0 %"]
    assert "Passed over:" in result.output


def test_the_command_writes_where_it_is_told_and_overwrites_no_other_run(tmp_path):
    for folder in ("a", "b"):
        for report in some_run(1, rounds=2)[0]:
            report.append_to(tmp_path / folder / "mine.jsonl")
    result = shown(tmp_path / "a", tmp_path / "b" / "mine.jsonl", "--out", tmp_path / "pictures")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["mine-nodes-2.png", "mine-nodes.png"]
    assert list(tmp_path.rglob("a/*.png")) == []


def test_rules_without_weights_are_marked(tmp_path):
    path = tmp_path / "median.jsonl"
    nodes = {1: NodeReport("accepted", norm=1.0), 2: NodeReport("quarantined", "NaN")}
    RoundReport(1, "Median()", 1, 1, nodes).append_to(path)
    known = {1: Node(1, 0, False), 2: Node(2, 1, True)}
    run = make_fates(list(read_reports(path)), path, "median", known)
    assert not run.tells_weights
    assert (run.rates.caught, run.rates.lost) == (1.0, 0.0)
    assert "by quarantine alone" in shown(path).output


def test_the_command_refuses_what_is_no_run(tmp_path):
    result = shown(tmp_path / "nowhere.jsonl")
    assert result.exit_code == 1
    assert "nowhere.jsonl cannot be read" in result.output
    assert json.loads(recorded(tmp_path).read_text().splitlines()[0])["partition_of"][str(BIG)] == 2


def test_folders_are_searched_to_the_bottom(tmp_path):
    report = RoundReport(1, "Mean()", 1, 0, {7: NodeReport("accepted", weight=1.0)})
    for folder in ("one", "one/two", "three"):
        report.append_to(tmp_path / folder / "run.jsonl")
    runs, passed_over = find_runs([tmp_path])
    assert len(runs) == 3
    assert not passed_over
