"""Aggregation's share of a simulated round."""

import json

import pytest

from simulations.data.load import load_split
from tests.simulations.bench.command import bench

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
    monkeypatch.setattr(simulated, "require_data", lambda: None)
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
