"""The bench measures right answers, its numbers hang together, and what is skipped says why; nothing about speed."""

import json
import os
from importlib.util import find_spec
from math import isfinite, prod
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flwr_robust import rules
from simulations.bench import cases, growth, limits, messages, split
from simulations.bench.growth import GrowthBench, overlapping_rows
from simulations.bench.measure import Bench
from simulations.bench.messages import MODELS, Problem, layers_for
from simulations.bench.report import tables
from simulations.cli import STOPPED, app
from simulations.data.load import load_split

N, D, F = 7, 4000, 1
SPECS = {
    name: name.lower()
    .replace("trimmedmean", "trimmed-mean")
    .replace("multikrum", "multi-krum")
    .replace("geometricmedian", "geometric-median")
    .replace("centeredclipping", "centered-clipping")
    for name in cases.OURS
}


def bench(folder, *arguments):
    sizes = ["--n", N, "--d", D, "--f", F, "--repeats", 1, "--out", folder]
    return CliRunner().invoke(app, ["bench", *map(str, [*sizes, *arguments])], env={"COLUMNS": "100"})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    result = bench(folder, "--growth", "--largest-n", 17, "--largest-d", 10_000)
    assert result.exit_code == 0, result.output
    return SimpleNamespace(
        folder=folder, output=result.output, found=json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    )


def test_every_case_has_finite_positive_seconds(done):
    found = {(case["group"], case["name"]): case for case in done.found["cases"]}
    assert {name for group, name in found if group == "strategy"} == set(cases.OURS)
    assert {name for group, name in found if group == "matrix"} == set(cases.OURS)
    flowers = {"FedAvg", "Krum", "MultiKrum", "Bulyan", "FedMedian", "FedTrimmedAvg"}
    assert {name for group, name in found if group == "flower"} == flowers
    assert any(group == "byzfl" for group, _ in found) == (find_spec("byzfl") is not None)
    for case in found.values():
        assert case["skipped"] is None, case
        assert isfinite(case["seconds"]), case
        assert case["seconds"] > 0, case
    assert all(isfinite(value) and value > 0 for value in done.found["limits"]["seconds"].values())


def test_ratios_are_those_of_the_seconds(done):
    found = done.found["cases"]
    fedavg = next(case["seconds"] for case in found if case["name"] == "FedAvg")
    seconds = {f"{case['group']} {case['name']}": case["seconds"] for case in found}
    for case in found:
        assert case["to_fedavg"] * fedavg == pytest.approx(case["seconds"])
        if case["peer"]:
            assert case["to_peer"] * seconds[case["peer"]] == pytest.approx(case["seconds"])
        if case["limit"]:
            assert case["to_limit"] * case["limit"] == pytest.approx(case["seconds"])
        if case["peak_bytes"]:
            assert case["peak_share"] * N * D * 4 == pytest.approx(case["peak_bytes"])
    krum = next(case for case in found if (case["group"], case["name"]) == ("strategy", "Krum"))
    assert krum["peer"] in ("flower Krum", "byzfl Krum")


def test_parts_are_known_for_our_strategies_alone(done):
    for case in done.found["cases"]:
        assert set(case["parts"]) == (set(split.PARTS) if case["group"] == "strategy" else set())
        assert all(value >= -1e-6 for value in case["parts"].values())
    krum = next(c["parts"] for c in done.found["cases"] if (c["group"], c["name"]) == ("strategy", "Krum"))
    assert min(krum.values()) > 0


def test_pictures_are_written(done):
    for name in ("bench.png", "growth.png"):
        assert (done.folder / name).read_bytes().startswith(b"\x89PNG")


def test_growth_has_points_in_both_directions(done):
    for found in done.found["growth"]:
        assert found["sizes"] == ([17] if found["variable"] == "n" else [10_000])
        assert all(isfinite(value) and value > 0 for value in found["seconds"])


@pytest.mark.parametrize("name", cases.OURS)
def test_strategies_that_are_measured_give_what_their_rules_give(name):
    problem = Problem(N, D, F)
    chosen = {case.group: case for case in cases.all_cases([name], peers=False) if case.name == name}
    with cases.quiet():
        update = problem.update(chosen["strategy"].start(problem)()())
    rule = rules.from_spec(SPECS[name], F, {"seed": 1} if name in ("DnC", "SignGuard") else {})
    expected = rule(problem.matrix, problem.layers)
    # The model is float32: an update is known to within the model's rounding.
    np.testing.assert_allclose(update, expected, atol=1e-7)
    np.testing.assert_array_equal(chosen["matrix"].start(problem)()(), expected)


def test_differences_to_the_rules_are_recorded(done):
    for case in done.found["cases"]:
        if case["group"] in ("strategy", "matrix"):
            assert case["difference"] < 1e-4, case["name"]


def test_what_is_skipped_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "PEER_COPIES", 1e9)
    result = bench(tmp_path, "--f", 2, "--only", "bulyan", "--only", "Median")
    assert result.exit_code == 0, result.output
    found = {(c["group"], c["name"]): c for c in json.loads((tmp_path / "bench.json").read_text())["cases"]}
    assert "needs n >= 4f + 3" in found["strategy", "Bulyan"]["skipped"]
    assert "needs n >= 4f + 3" in found["matrix", "Bulyan"]["skipped"]
    assert "of memory, and" in found["flower", "FedMedian"]["skipped"]
    assert found["strategy", "Bulyan"]["seconds"] is None
    assert found["strategy", "Median"]["seconds"] > 0
    # FedAvg, which all is compared to, is missing for want of memory too: then there are no ratios.
    assert found["strategy", "Median"]["to_fedavg"] is None
    words = " ".join(result.output.split())
    assert "Bulyan is skipped: Bulyan(f=2) was given n = 7 rows with f = 2" in words
    assert "Flower FedMedian is skipped: may need" in words


def test_a_hopeless_search_is_skipped_before_it_starts():
    pytest.importorskip("byzfl")
    case = next(case for case in cases.all_cases(["MDA"]) if case.group == "byzfl")
    with pytest.raises(cases.SkippedError, match="subsets"):
        case.start(Problem(40, 100, 12))


def test_a_peer_that_fails_is_skipped_and_ours_is_not():
    def fail(_):
        raise RuntimeError("broken")

    def made(group):
        return [cases.all_cases(["Mean"])[0], cases.Case("X", group, "Mean", fail)]

    with cases.quiet():
        broken = Bench(Problem(3, 100, 0), made("flower"), 1, 1, 60.0)
        list(broken.run())
        assert broken.results[1].skipped == "failed: RuntimeError: broken"
        with pytest.raises(RuntimeError, match="broken"):
            list(Bench(Problem(3, 100, 0), made("strategy"), 1, 1, 60.0).run())


def test_a_slow_peer_is_measured_once():
    with cases.quiet():
        slow = Bench(Problem(5, 1000, 1), cases.all_cases(["Median"]), 1, 3, peer_limit=0.0)
        list(slow.run())
    for result in slow.results:
        assert len(result.seconds) == (1 if result.case.is_peer else 3)


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_the_terminal(width):
    with cases.quiet():
        measured = Bench(Problem(5, 1000, 1), cases.all_cases(["ARC+NNM+GeometricMedian", "Median"]), 1, 1, 60.0)
        list(measured.run())
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(tables(measured, width))
    text = capture.get()
    assert "ARC+NNM+GeometricMedian" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "Crumb"], "the case 'Crumb' is unknown (did you mean 'Krum'?)"),
        (["--f", "4"], "give an f below n / 2"),
        (["--device", "gpu"], "the bench was given device = 'gpu', which names no device of torch's"),
    ],
)
def test_wrong_options_are_refused(tmp_path, arguments, message):
    result = bench(tmp_path, *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "bench.json").exists()


def test_sizes_beyond_memory_are_refused(tmp_path):
    result = bench(tmp_path, "--d", 10**13)
    assert result.exit_code == 1
    assert "give a smaller n or d" in result.output


def test_threads_are_set_for_the_bench_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_ROBUST_THREADS", "3")
    result = bench(tmp_path, "--threads", 1, "--only", "Mean", "--skip-peers", "--skip-matrices")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "bench.json").read_text())["machine"]["threads"] == 1
    assert os.environ["FLWR_ROBUST_THREADS"] == "3"


def test_a_device_has_a_limit_of_its_own(tmp_path):
    pytest.importorskip("torch")
    result = bench(tmp_path, "--device", "cpu", "--only", "NNM+Median", "--only", "Krum", "--skip-peers")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "bench.json").read_text())
    seconds, rates = found["limits"]["seconds"], found["limits"]["rates"]
    assert rates["copied_bytes_per_second"] * seconds["copy"] == pytest.approx(N * D * 4)
    assert found["machine"]["device"].startswith("torch's CPU (no GPU")
    words = " ".join(result.output.split())
    assert "Strategies ran on torch's CPU (no GPU" in words
    assert "copying all replies there takes" in words
    made = {(case["group"], case["name"]): case for case in found["cases"]}
    for name in ("NNM+Median", "Krum"):
        # Through torch and by compiled loops.
        assert made["strategy", name]["difference"] < 1e-4
        assert made["strategy", name]["limit"] == pytest.approx(2 * max(seconds["read"], seconds["copy"]))
    assert made["matrix", "NNM+Median"]["limit"] >= made["matrix", "Krum"]["limit"]


# ---------------------------------------------------------------- messages


def test_models_are_the_papers():
    assert [sum(prod(shape) for _, shape in model) for model in MODELS] == [431_080, 1_310_922, 11_173_962]


@pytest.mark.parametrize("d", [1, 50, 999, 1000, 4000, 431_080, 431_081, 10**6, 10**7])
def test_layers_add_up_to_any_size(d):
    layers = layers_for(d)
    assert sum(prod(shape) for _, shape in layers) == d
    assert all(size > 0 for _, shape in layers for size in shape)
    assert any(len(shape) == 2 for _, shape in layers)
    if d >= messages.LEAST_LAYERED:
        assert len({prod(shape) for _, shape in layers}) > 4


def test_messages_hold_the_matrix():
    problem = Problem(3, 2000, 1)
    first, again = problem.replies(), problem.replies()
    for row, reply in zip(problem.matrix, first, strict=True):
        np.testing.assert_array_equal(problem.update(reply.content["arrays"]).astype(np.float32), row)
    first[0].content["arrays"].clear()
    assert again[0].content["arrays"]
    assert [reply.metadata.src_node_id for reply in again] == problem.nodes


# ---------------------------------------------------------------- limits, split, growth


def test_comparators_are_batchers():
    assert [limits.comparators(2**power) for power in range(5)] == [0, 1, 5, 19, 63]
    assert limits.comparators(8) < limits.comparators(9) < limits.comparators(16)


def test_limits_grow_with_what_a_chain_does():
    seconds = {"read": 1.0, "gram": 3.0, "mix": 2.0, "exchange": 0.5}

    def least(spec):
        return limits.least_seconds(rules.from_spec(spec, 1), 4, seconds)

    assert least("mean") == 1.0
    assert least("median") == 5 * 0.5
    assert least("krum") == 3.0 + 1.0
    assert least("arc+mean") == 1.0 + 1.0
    assert least("arc+nnm+krum") == 3.0 + 1.0
    assert least("nnm+median") == 3.0 + 2.0 + 5 * 0.5
    assert least("lasa") == 2.0
    # On a device each pass takes a copy there, which hides what is computed; LASA's own stay on the CPU.
    seconds["copy"] = 7.0
    assert least("mean") == 7.0
    assert least("nnm+median") == 7.0 + 7.0
    assert least("nnm+lasa") == 7.0 + 2.0


def test_the_split_leaves_flwr_robust_as_it_was():
    from flwr_robust import engine
    from flwr_robust.rows import Rows

    before = engine.look, Rows.combine
    with split.watching():
        assert engine.look is not before[0]
    assert (engine.look, Rows.combine) == before


def test_parts_add_up_without_counting_twice():
    watch = split.Stopwatch()
    inner = watch.around(split.GRAM, lambda: sum(range(1000)))
    assert watch.run(split.OTHER, lambda: inner() + 1) == sum(range(1000)) + 1
    assert watch.seconds[split.GRAM] > 0
    assert watch.seconds[split.OTHER] > 0
    assert watch.seconds[split.READING] == 0


def test_overlapping_rows_differ():
    matrix = overlapping_rows(4, 50_000)
    assert len({row.tobytes() for row in matrix}) == 4
    assert not matrix.flags.writeable


def test_growth_stops_where_it_would_take_too_long():
    measured = GrowthBench(1, 24, 1000, limit=0.0)
    assert len(list(measured.run())) == len(measured.results) == 2 * len(growth.CHAINS)
    for result in measured.results:
        assert len(result.sizes) == 1
        if result.variable == "n":
            assert "more than 0 s are not spent" in result.ended


def test_growth_stops_where_memory_ends(monkeypatch):
    monkeypatch.setattr(growth, "free_bytes", lambda: 2_500_000)
    measured = GrowthBench(1, 100, 1000, limit=60.0)
    list(measured.run())
    for result in measured.results:
        # Rows begin 65,644 bytes apart, and a fifth of the memory is left to others.
        assert result.sizes == ([17, 24] if result.variable == "n" else [10_000])
    assert "34 may need 2.28 MB of memory, and 2.5 MB are free" in measured.results[0].ended


def test_a_long_call_is_not_repeated(monkeypatch):
    calls = []

    def fake(seconds):
        monkeypatch.setattr(growth, "timed", lambda work: (calls.append(work) or seconds, None))
        return GrowthBench(3, 17, 1000, limit=60.0)._seconds(None), len(calls)

    assert fake(growth.LONG + 1) == (growth.LONG + 1, 1)
    assert fake(growth.LONG / 2) == (growth.LONG / 2, 1 + 1 + 3)


def test_growth_that_is_stopped_leaves_its_points(tmp_path, monkeypatch):
    calls, measure = [], growth.GrowthBench._seconds

    def stop(self, work):
        calls.append(work)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, work)

    monkeypatch.setattr(growth.GrowthBench, "_seconds", stop)
    result = bench(tmp_path, "--growth", "--only", "Mean", "--skip-peers", "--skip-matrices")
    assert result.exit_code == STOPPED
    assert "Stopped." in result.output
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [len(each["seconds"]) for each in found["growth"]] == [1, 1, *[0] * (len(growth.CHAINS) * 2 - 2)]
    assert all(len(each["seconds"]) == len(each["sizes"]) for each in found["growth"])
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- a simulated round


def result_of_rounds(folder, seconds):
    """A results file as a simulation leaves it: (seconds, seconds of aggregation, accuracy) of each round."""
    pytest.importorskip("torch")
    from simulations.bench.simulated import config_for
    from simulations.run.recorder import RunRecorder
    from simulations.run.results import read_result

    recorder = RunRecorder(config_for(folder), 17)
    recorder.end()
    lines = [
        {"type": "round", "round": number, "accuracy": accuracy, "seconds": whole, "aggregation-seconds": part}
        for number, (whole, part, accuracy) in enumerate(seconds)
    ]
    with recorder.path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return read_result(recorder.path)


def test_the_share_is_that_of_rounds_that_count(tmp_path):
    before, first, last = (9.0, None, 0.1), (30.0, 2.0, None), (5.0, 0.5, 0.9)
    result = result_of_rounds(tmp_path, [before, first, (1.0, 0.02, None), (3.0, 0.1, None), (2.0, 0.06, None), last])
    from simulations.bench.simulated import summarise

    found = summarise(result)
    assert (found.rounds, found.seconds, found.aggregation_seconds) == (3, 2.0, 0.06)
    assert found.as_json()["share"] == pytest.approx(0.03)
    assert str(found) == (
        "A simulated round of 17 nodes and 431,080 parameters takes 2.000 s, of which arc+nnm+trimmed-mean takes "
        "0.0600 s: 3.0% (medians of 3 rounds)."
    )


def test_the_simulated_round_joins_the_numbers(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from simulations.bench import simulated

    expected = simulated.SimulatedRound(17, 431_080, "arc+nnm+trimmed-mean", 20, 1.5, 0.03)
    monkeypatch.setattr(simulated, "check_data", lambda: None)
    monkeypatch.setattr(simulated, "measure_round", lambda out, console: expected)
    result = bench(tmp_path, "--simulated-round", "--only", "Mean", "--skip-peers", "--skip-matrices")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "bench.json").read_text())["simulated_round"] == expected.as_json()
    assert "takes 0.0300 s: 2.0%" in " ".join(result.output.split())


def test_a_simulated_round_without_data_is_refused_first(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("FLWR_ROBUST_DATA", str(tmp_path))
    load_split.cache_clear()  # another test may have read the data
    result = bench(tmp_path, "--simulated-round")
    assert result.exit_code == 1
    assert "mnist/train.parquet does not exist" in " ".join(result.output.split())
    assert not (tmp_path / "bench.json").exists()
