"""Attack success, checked by models that are made by hand."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from torch import nn

from clients.attacks import attack_success_rate
from simulations.config.run_config import RunConfig
from simulations.data.edges import edge_inputs
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.run import evaluation
from simulations.run.evaluation import Evaluation
from simulations.run.recorder import RunRecorder
from simulations.run.results import read_result
from simulations.run.success import Success, predict, shown_data, shown_predictions, triggered_test

CPU = torch.device("cpu")
WHITE = (1 - 0.3053) / 0.3760
TARGET = 3


def config(attack="badnets", args=f"target={TARGET} size=2", **more):
    return RunConfig(num_malicious=2, attack=attack, attack_args=args, **more)


class Fooled(nn.Module):
    """Says the target where the lower right square is white, else the class of the sample that it was told."""

    def __init__(self, labels, share=1.0):
        super().__init__()
        self.labels, self.share = torch.as_tensor(labels), share
        self.seen = 0

    def forward(self, images):
        here = slice(self.seen, self.seen + len(images))
        self.seen += len(images)
        white = ((images[:, 0, 6:, 6:] - WHITE).abs() < 1e-5).all(dim=2).all(dim=1)
        few = torch.arange(here.start, here.stop) < self.share * len(self.labels)
        said = torch.where(white & few, TARGET, self.labels[here])
        return nn.functional.one_hot(said, 10).float()


def test_triggered_data_leave_out_the_target_class():
    data = load_split("digits", "test")
    inputs, labels = triggered_test(config(), config().build_backdoor())
    assert labels.tolist() == [label for label in data.labels if label != TARGET]
    np.testing.assert_allclose(inputs[:, 0, 6:, 6:], WHITE, rtol=1e-6)
    clean = Inputs.of("digits").plain(data.inputs[data.labels != TARGET])
    clean[:, 0, 6:, 6:] = inputs[:, 0, 6:, 6:]
    np.testing.assert_array_equal(inputs, clean)


def test_a_model_with_a_backdoor_and_one_without():
    _, labels = triggered_test(config(), config().build_backdoor())
    success = Success(config(), CPU)
    assert success.measure(Fooled(labels)) == {"attack_success_rate": 1.0}
    assert success.measure(Fooled(labels, share=0.0)) == {"attack_success_rate": 0.0}
    half = success.measure(Fooled(labels, share=0.5))["attack_success_rate"]
    assert half == pytest.approx(0.5, abs=0.01)
    assert success.measure(Fooled(np.full(len(labels), 5)))["attack_success_rate"] == 1.0


def test_runs_without_a_backdoor_have_no_rate():
    assert Success(config("sign-flip", ""), CPU).measure(nn.Identity()) == {}
    assert shown_predictions(config("sign-flip", ""), nn.Identity(), CPU) == {}


def test_edge_cases_are_measured_on_held_out_edge_inputs():
    run = config("edge-case", f"target={TARGET} edge=turned:7")
    inputs, labels = triggered_test(run, run.build_backdoor())
    held_out, true = edge_inputs(run, "test")
    np.testing.assert_array_equal(inputs, held_out)
    assert labels.tolist() == true.tolist() == [7] * len(inputs)


def test_semantic_backdoors_are_measured_on_what_meets_the_condition():
    run = config("semantic-label-swap", f"target={TARGET} condition=bright")
    inputs, labels = triggered_test(run, run.build_backdoor())
    data = load_split("digits", "test")
    plain = Inputs.of("digits").plain(data.inputs)
    met = (plain.mean(axis=(1, 2, 3)) > 0) & (data.labels != TARGET)
    np.testing.assert_array_equal(inputs, plain[met])
    np.testing.assert_array_equal(labels, data.labels[met])
    assert 0 < met.sum() < len(met)


def test_predictions_of_batches_are_those_of_all():
    images = np.random.default_rng(0).normal(size=(2500, 1, 8, 8)).astype(np.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        wanted = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    np.testing.assert_array_equal(predict(model, images, CPU), wanted)
    assert predict(model, images[:0], CPU).shape == (0,)


def test_shown_samples_are_one_a_class():
    shown = shown_data(config())
    others = [label for label in range(10) if label != TARGET]
    assert shown.labels.tolist() == others
    np.testing.assert_array_equal(shown.triggered, config().build_backdoor().trigger(shown.clean))
    told = shown_predictions(config(), Fooled(np.tile(shown.labels, 2)), CPU)
    assert told == {"clean": others, "triggered": [TARGET] * 9}


def test_the_rate_stands_beside_accuracy_in_the_results(tmp_path, monkeypatch):
    run = config(num_rounds=2, evaluate_every=2, out_dir=str(tmp_path), num_nodes=5, measure="predictions")
    recorder = RunRecorder(run, 5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    monkeypatch.setattr(evaluation, "build_model", lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    evaluate, arrays = Evaluation(run, recorder), ArrayRecord(model.state_dict())
    told = evaluate(0, arrays)
    evaluate(1, arrays)
    evaluate(2, arrays)
    recorder.end()
    inputs, labels = triggered_test(run, run.build_backdoor())
    with torch.no_grad():
        rate = attack_success_rate(model(torch.from_numpy(inputs)).argmax(dim=1), labels, TARGET)
    assert told["attack_success_rate"] == rate
    first, second, last = read_result(recorder.path).rounds
    assert first["attack_success_rate"] == last["attack_success_rate"] == rate
    assert "attack_success_rate" not in second
    assert "predictions" not in first
    assert len(last["predictions"]["clean"]) == 9
    assert read_result(recorder.path).end["final_attack_success_rate"] == rate
