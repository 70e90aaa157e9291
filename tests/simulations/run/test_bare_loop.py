"""Runs of the app agree with a bare loop of the same algorithm, round by round, to the rounding of float32.

`test_simulation.py` makes the same comparison with a run on Flower's engine.
"""

import numpy as np
import pytest

from simulations.config.run_config import RunConfig
from tests.simulations.bare_loop import bare_run
from tests.simulations.local_grid import LocalGrid, run_locally

NODES = 7
BASE = RunConfig(
    num_malicious=2,
    num_rounds=10,
    attack="foe",
    attack_args="tau=3",
    defense="nnm+trimmed-mean",
    batch_size=0,
    learning_rate=1.5,
    lr_schedule="inverse:4",
    measure="kappa+clipping",
)

CASES = {
    "full gradients, NNM and trimmed mean under FOE": BASE,
    "batches, NNM and Krum under sign flips": BASE.replace(
        batch_size=20, attack="sign-flip", attack_args="", defense="nnm+krum", lr_schedule="exponential:0.9"
    ),
    "ARC, momentum at the server, ALIE": BASE.replace(
        defense="arc+nnm+median", attack="alie", attack_args="tau=1.5", server_momentum=0.5, momentum=0.0
    ),
    "the mean under label flips, by class": BASE.replace(
        defense="mean", attack="label-flip", attack_args="", partition="by-class", model="softmax"
    ),
    "honest nodes alone hold data, large weights, half the rate": BASE.replace(
        data_holders="honest", partition="sorted", init_scale=2.0, server_learning_rate=1.5, normalisation="half"
    ),
}


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_a_run_agrees_with_the_bare_loop(config, tmp_path):
    grid = LocalGrid(NODES)
    run = run_locally(config, tmp_path, grid).rounds
    bare = bare_run(config, NODES)
    assert len(run) == len(bare) == config.num_rounds + 1
    models = [np.concatenate([array.numpy().ravel() for array in record.values()]) for record in grid.models]
    for model, expected in zip(models, bare, strict=False):
        np.testing.assert_allclose(model, expected.model, rtol=1e-5, atol=2e-6)
    for line, expected in zip(run, bare, strict=True):
        assert line["accuracy"] == pytest.approx(expected.accuracy, abs=1e-12)
        assert line["loss"] == pytest.approx(expected.loss, rel=2e-6)
    for line, expected in zip(run[1:], bare[1:], strict=True):
        assert line["measure/kappa"] == pytest.approx(expected.kappa, rel=1e-3)
        assert line["measure/honest-norm"] == pytest.approx(expected.honest_norm, rel=1e-4)
        assert line.get("measure/threshold", 0) == pytest.approx(expected.threshold, rel=1e-4)
    # The model moves: agreement in standing still would prove little.
    assert np.linalg.norm(bare[-1].model - bare[0].model) > 0.2
