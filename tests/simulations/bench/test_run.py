"""The bench measures right answers, its numbers hang together, and what is skipped says why; nothing about speed."""

import json
import os
from importlib.util import find_spec
from math import isfinite
from types import SimpleNamespace

import pytest

from simulations.bench import cases, split
from tests.simulations.bench.command import D, N, bench


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
