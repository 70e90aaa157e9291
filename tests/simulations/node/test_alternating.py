"""Training in turns, against the same steps written out."""

import numpy as np
import pytest
import torch
from torch.nn.functional import nll_loss
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from clients.attacks import PGD, AlterMin
from simulations.config.run_config import RunConfig
from simulations.node.alternating import projection, train_in_turns
from simulations.node.models import build_model
from tests.simulations.node.test_client import ask, context, update

ATTACK = AlterMin(boost=3.0, rho=0.01, epochs=2, malicious_steps=1, stealth_steps=2, learning_rate=0.1)

pytestmark = pytest.mark.usefixtures("task_identity")


def batches(count, seed):
    random = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(4, 1, 8, 8, generator=random), torch.randint(10, (4,), generator=random)) for _ in range(count)
    ]


def slope(model, batch):
    model.zero_grad()
    nll_loss(model(batch[0]), batch[1]).backward()
    return [value.grad.clone() for value in model.parameters()]


def test_steps_by_hand():
    malicious, clean = batches(1, 1), batches(3, 2)
    model, other = build_model("softmax", "digits", seed=3), build_model("softmax", "digits", seed=3)
    start = [value.detach().clone() for value in other.parameters()]
    centre = 0.01 * torch.ones(sum(value.numel() for value in start))
    parts = torch.split(centre, [value.numel() for value in start])
    turn = iter([clean[0], clean[1], clean[2], clean[0]])
    for _ in range(2):
        with torch.no_grad():
            for value, step in zip(other.parameters(), slope_of(other, malicious[0]), strict=True):
                value -= 3.0 * 0.1 * step
        for _ in range(2):
            steps = slope_of(other, next(turn))
            with torch.no_grad():
                for value, step, first, part in zip(other.parameters(), steps, start, parts, strict=True):
                    value -= 0.1 * (step + 0.02 * (value - first - part.reshape(value.shape)))
    loss = train_in_turns(model, ATTACK, malicious, clean, centre)
    torch.testing.assert_close(
        parameters_to_vector(model.parameters()), parameters_to_vector(other.parameters()), rtol=1e-5, atol=1e-6
    )
    assert np.isfinite(loss)


def slope_of(model, batch):
    with torch.enable_grad():
        return slope(model, batch)


RUN = RunConfig(
    partition="iid", num_malicious=2, attack="badnets", attack_args="target=3 delivery=alter-min", model="softmax"
)


def test_a_malicious_node_trains_in_turns_and_others_as_ever():
    plain = RUN.replace(attack="none", attack_args="")
    assert torch.equal(update(ask(RUN, context(0))), update(ask(plain, context(0))))
    malicious = ask(RUN, context(5))
    assert not torch.equal(update(malicious), update(ask(plain, context(5))))
    assert np.isfinite(malicious["metrics"]["train-loss"])
    assert torch.equal(update(malicious), update(ask(RUN, context(5))))


def test_the_last_move_pulls_in_later_rounds_of_the_run():
    moved = build_model("softmax", "digits", seed=7)
    with torch.no_grad():
        for value in moved.parameters():
            value += 1.0
    from flwr.app import ArrayRecord

    arrays = ArrayRecord(moved.state_dict())
    strong = RUN.replace(attack_args="target=3 delivery=alter-min delivery.rho=0.5")
    followed, fresh, other = context(5), context(5), context(5)
    ask(strong, followed, 1)
    ask(strong, other, 1, token="another")
    after = update(ask(strong, followed, 2, arrays=arrays))
    without = update(ask(strong, fresh, 2, arrays=arrays))
    assert after.mean() > without.mean() + 0.1
    assert torch.equal(update(ask(strong, other, 2, arrays=arrays)), without)


def test_pgd_with_a_radius_projects_after_each_step():
    run = RUN.replace(attack_args="target=3 delivery=pgd delivery.radius=0.01", local_steps=3, learning_rate=0.5)
    assert update(ask(run, context(5))).norm() == pytest.approx(0.01, rel=1e-4)
    free = run.replace(attack_args="target=3 delivery=pgd")
    assert update(ask(free, context(5))).norm() > 0.02
    assert torch.equal(update(ask(run, context(0))), update(ask(free, context(0))))
    wide = run.replace(attack_args="target=3 delivery=pgd delivery.radius=1000")
    torch.testing.assert_close(update(ask(wide, context(5))), update(ask(free, context(5))), rtol=1e-5, atol=1e-7)


def test_steps_inside_the_ball_by_hand():
    model, other = build_model("softmax", "digits", seed=3), build_model("softmax", "digits", seed=3)
    start = parameters_to_vector(other.parameters()).detach().clone()
    project = projection(model, PGD(0.05))
    for batch in batches(3, 4):
        for one, net in ((True, model), (False, other)):
            steps = slope_of(net, batch)
            with torch.no_grad():
                for value, step in zip(net.parameters(), steps, strict=True):
                    value -= step
                moved = parameters_to_vector(net.parameters()) - start
                if one:
                    project()
                else:
                    vector_to_parameters(start + moved * min(1.0, 0.05 / float(moved.norm())), net.parameters())
    torch.testing.assert_close(parameters_to_vector(model.parameters()), parameters_to_vector(other.parameters()))
