"""Result files: what is written, what is read back, also in the middle of a run."""

from simulations.run.recorder import RunRecorder
from simulations.run.results import read_result


def test_lines_can_be_read_at_once_and_half_a_line_is_left_out(config):
    recorder = RunRecorder(config, num_nodes=7)
    recorder.round(0, 0.1, 2.3)
    result = read_result(recorder.path)
    assert (len(result.rounds), result.end, result.num_nodes) == (1, None, 7)
    with recorder.path.open("a") as file:
        file.write('{"type": "rou')
    assert len(read_result(recorder.path).rounds) == 1


def test_a_file_that_is_not_there_yet_is_an_empty_result(tmp_path):
    assert read_result(tmp_path / "none.jsonl").rounds == []


def test_curve_leaves_out_rounds_without_evaluation(config):
    recorder = RunRecorder(config, num_nodes=7)
    for server_round, accuracy in ((0, 0.1), (1, None), (2, 0.3)):
        recorder.round(server_round, accuracy, None)
    assert read_result(recorder.path).curve == ([0, 2], [0.1, 0.3])
