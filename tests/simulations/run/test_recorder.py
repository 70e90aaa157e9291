"""Result files: what is written while a run goes on."""

import json
import math

from simulations.run.recorder import RunRecorder, result_path
from simulations.run.results import read_result


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_run_leaves_config_rounds_and_end(config):
    recorder = RunRecorder(config, num_nodes=7)
    recorder.round(0, 0.1, 2.3)
    recorder.train_metrics({"robust/accepted": 7})
    recorder.round(1, 0.6, 1.0)
    recorder.round(2, None, None)
    recorder.round(3, 0.4, 1.5)
    recorder.end()
    first, *rounds, last = lines(recorder.path)
    assert first["type"] == "config"
    assert first["parameters"] == config.to_run_config()
    assert (first["num_nodes"], first["malicious"]) == (7, [5, 6])
    assert first["versions"]["flwr"]
    assert [line["round"] for line in rounds] == [0, 1, 2, 3]
    assert rounds[1]["robust/accepted"] == 7
    assert "robust/accepted" not in rounds[2]
    assert all(line["seconds"] >= 0 for line in rounds)
    assert (last["max_accuracy"], last["final_accuracy"]) == (0.6, 0.4)
    assert last["wall_s"] >= 0


def test_numbers_that_json_cannot_hold_become_null(config):
    recorder = RunRecorder(config, num_nodes=7)
    recorder.train_metrics({"robust/norms": [1.0, math.inf]})
    recorder.round(1, 0.1, math.nan)
    line = lines(recorder.path)[-1]
    assert line["loss"] is None
    assert line["robust/norms"] == [1.0, None]


def test_failure_is_told_in_the_file(config):
    recorder = RunRecorder(config, num_nodes=7)
    recorder.fail(RuntimeError("the grid is gone"))
    result = read_result(recorder.path)
    assert result.error == "RuntimeError: the grid is gone"
    assert result.end is None


def test_file_names_tell_what_was_run_and_differ_by_every_parameter(config):
    path = result_path(config, 7)
    assert path.name.startswith("digits_foe_arc+nnm+trimmed-mean_seed1_")
    assert path.suffix == ".jsonl"
    assert path != result_path(config, 8)
    assert path != result_path(config.replace(learning_rate=0.123), 7)
    assert result_path(config.replace(num_malicious=0), 7).name.startswith("digits_none_")
