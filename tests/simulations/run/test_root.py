"""The server's own update: trained on samples of its own, as a node trains."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord

from simulations.config.run_config import RunConfig
from simulations.data.batches import Plan, draw_batches
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.node.models import build_model
from simulations.run.root import SAMPLES, root_function
from tests.simulations.local_grid import run_locally

PLAIN = RunConfig(
    num_malicious=1, model="softmax", momentum=0.0, weight_decay=0.0, gradient_clip=0.0, batch_size=0, learning_rate=0.5
)


def test_one_step_on_all_its_samples():
    start = build_model("softmax", "digits", seed=7)
    trained = root_function(PLAIN)(ArrayRecord(start.state_dict()), 1).to_torch_state_dict()
    data, random = load_split("digits", "train"), np.random.default_rng([PLAIN.seed, 17])
    own = random.choice(len(data), size=SAMPLES, replace=False)
    ((images, labels),) = draw_batches(Inputs.of("digits"), data, own, Plan(0), (0,), torch.device("cpu"))
    loss = -start(images)[torch.arange(SAMPLES), labels].mean()
    for (name, value), step in zip(
        start.state_dict().items(), torch.autograd.grad(loss, list(start.parameters())), strict=True
    ):
        torch.testing.assert_close(trained[name], value - 0.5 * step, rtol=1e-4, atol=1e-6)


def test_rounds_draw_other_batches_of_the_same_samples():
    config, arrays = PLAIN.replace(batch_size=10), ArrayRecord(build_model("softmax", "digits", seed=7).state_dict())
    one, same, other = (root_function(config)(arrays, server_round).to_torch_state_dict() for server_round in (1, 1, 2))
    name = next(iter(one))
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


@pytest.mark.usefixtures("task_identity")
def test_rules_that_trust_the_server_run(tmp_path):
    config = RunConfig(num_malicious=1, model="softmax", defense="fltrust", num_rounds=3, attack="sign-flip")
    result = run_locally(config, tmp_path, 5)
    assert result.end is not None
    assert not any(line["robust/skipped"] for line in result.rounds[1:])
    assert result.end["final_accuracy"] > 2 * result.rounds[0]["accuracy"]
