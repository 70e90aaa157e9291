"""Deliveries, against their definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients import attacks
from flwr_robust import rules
from tests.clients.attacks.data import draw

M, F, D = 7, 3, 20
HONEST, OWN = draw(M, D), 5 * draw(F, D, seed=1)
DELIVERIES = [attacks.ModelReplacement(), attacks.PGD(), attacks.Neurotoxin(0.3)]


def clip(row, bound):
    return row * min(1.0, bound / np.linalg.norm(row)) if row.any() else row


@pytest.mark.parametrize("attack", DELIVERIES, ids=repr)
def test_shapes_dtypes_and_what_stands_for_own_updates(attack):
    before = HONEST.copy(), OWN.copy()
    assert attack(HONEST.astype(np.float32), F, own=OWN.astype(np.float32)).dtype == np.float32
    assert attack(HONEST, 0).shape == (0, D)
    mean = np.tile(HONEST.mean(axis=0), (F, 1))
    np.testing.assert_allclose(attack(HONEST, F), attack(HONEST, F, own=mean))
    np.testing.assert_array_equal(HONEST, before[0])
    np.testing.assert_array_equal(OWN, before[1])


@pytest.mark.parametrize("attack", DELIVERIES, ids=repr)
def test_tensors(attack):
    torch = pytest.importorskip("torch")
    sent = attack(torch.tensor(HONEST), F, own=torch.tensor(OWN), previous=torch.tensor(HONEST[0]))
    np.testing.assert_allclose(sent.numpy(), attack(HONEST, F, own=OWN, previous=HONEST[0]))


def test_replacement_survives_the_mean():
    sent = attacks.ModelReplacement(server_learning_rate=0.5)(np.zeros((M, D)), F, own=OWN)
    np.testing.assert_allclose(0.5 * np.concatenate([np.zeros((M, D)), sent]).mean(axis=0), OWN.mean(axis=0))
    np.testing.assert_allclose(attacks.ModelReplacement(4.0)(HONEST, F, own=OWN), 4 * OWN)
    # (7 + 5 + 3) / 3
    np.testing.assert_allclose(attacks.ModelReplacement()(HONEST, F, own=OWN, unseen=5), 5 * OWN)


def test_pgd_projects():
    for radius in (0.5, 1e6):
        wanted = [clip(row, radius) for row in OWN]
        np.testing.assert_allclose(attacks.PGD(radius)(HONEST, F, own=OWN), wanted)
        np.testing.assert_allclose(attacks.PGD(radius).project(OWN[0]), wanted[0])
        np.testing.assert_allclose(attacks.PGD(radius).project(OWN), wanted)
    usual = np.median(np.linalg.norm(HONEST, axis=1))
    np.testing.assert_allclose(attacks.PGD()(HONEST, F, own=OWN), [clip(row, usual) for row in OWN])
    np.testing.assert_allclose(attacks.PGD(2.0, norm=math.inf)(HONEST, F, own=OWN), OWN.clip(-2, 2))
    largest = np.median(np.abs(HONEST).max(axis=1))
    np.testing.assert_allclose(attacks.PGD(norm=math.inf)(HONEST, F, own=OWN), OWN.clip(-largest, largest))
    assert not attacks.PGD(1.0)(HONEST, 1, own=np.zeros((1, D))).any()


def test_huge_updates_are_projected_too():
    projected = attacks.PGD(3.0).project(np.full(4, 1e200))
    np.testing.assert_allclose(projected, np.full(4, 1.5))


def test_projecting_needs_a_radius():
    with pytest.raises(ValueError, match="give a number to project"):
        attacks.PGD().project(OWN[0])


def test_deliveries_combine():
    sent = attacks.ModelReplacement(4.0)(HONEST, F, own=attacks.PGD(2.0)(HONEST, F, own=OWN))
    np.testing.assert_allclose(np.linalg.norm(sent, axis=1), 8.0)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.33, 1.0])
def test_neurotoxin_spares_what_the_model_moves_most(ratio):
    move = np.array([3.0, -3.0, 0.5, 1.0, -2.0] * 4)
    count = math.floor(ratio * D)
    order = sorted(range(D), key=lambda place: (-abs(move[place]), place))
    wanted = OWN.copy()
    wanted[:, order[:count]] = 0
    np.testing.assert_array_equal(attacks.Neurotoxin(ratio)(HONEST, F, own=OWN, previous=move), wanted)
    clipped = attacks.Neurotoxin(ratio, max_norm=1.0)(HONEST, F, own=OWN, previous=move)
    np.testing.assert_allclose(clipped, [clip(row, 1.0) for row in wanted])


def test_neurotoxin_without_a_move_takes_the_honest_mean():
    mean = HONEST.mean(axis=0)
    np.testing.assert_array_equal(
        attacks.Neurotoxin(0.5)(HONEST, F, own=OWN), attacks.Neurotoxin(0.5)(HONEST, F, own=OWN, previous=mean)
    )


@pytest.mark.parametrize("previous", [np.zeros(3), np.full(D, np.nan), np.zeros((1, D)), np.zeros(D, dtype=int)])
def test_wrong_moves(previous):
    with pytest.raises(ValueError, match="was given previous of shape"):
        attacks.Neurotoxin()(HONEST, F, previous=previous)


def reference_alter_min(attack, model, malicious, clean, centre):
    w = model.copy()
    for _ in range(attack.epochs):
        for _ in range(attack.malicious_steps):
            w = w - attack.boost * attack.learning_rate * malicious(w)
        for _ in range(attack.stealth_steps):
            w = w - attack.learning_rate * (clean(w) + 2 * attack.rho * (w - model - centre))
    return w - model


@pytest.mark.parametrize("centre", [None, np.full(4, 0.3)])
def test_alter_min_trains_in_turns(centre):
    attack = attacks.AlterMin(boost=3.0, rho=0.1, epochs=2, malicious_steps=2, stealth_steps=3, learning_rate=0.05)
    model = draw(1, 4)[0]
    before = model.copy()

    def malicious(w):
        return 2 * (w - 1)

    def clean(w):
        return w**3

    wanted = reference_alter_min(attack, model, malicious, clean, 0.0 if centre is None else centre)
    np.testing.assert_allclose(attack.train(model, malicious, clean, centre), wanted)
    np.testing.assert_array_equal(model, before)
    torch = pytest.importorskip("torch")
    given = None if centre is None else torch.tensor(centre)
    np.testing.assert_allclose(attack.train(torch.tensor(model), malicious, clean, given).numpy(), wanted)


def test_alter_min_is_no_function_of_updates():
    with pytest.raises(TypeError, match=r"call its train\(\)"):
        attacks.AlterMin()(HONEST, F)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("model-replacement", {"factor": 0}),
        ("model-replacement", {"factor": math.nan}),
        ("model-replacement", {"server_learning_rate": 0.0}),
        ("pgd", {"radius": 0.0}),
        ("pgd", {"radius": math.inf}),
        ("pgd", {"norm": 1}),
        ("pgd", {"norm": True}),
        ("neurotoxin", {"ratio": 1.1}),
        ("neurotoxin", {"ratio": "most"}),
        ("neurotoxin", {"max_norm": 0.0}),
        ("alter-min", {"boost": 0.0}),
        ("alter-min", {"rho": -1.0}),
        ("alter-min", {"epochs": 0}),
        ("alter-min", {"malicious_steps": 0}),
        ("alter-min", {"stealth_steps": 1.5}),
        ("alter-min", {"learning_rate": 0.0}),
    ],
    ids=str,
)
def test_wrong_values(name, wrong):
    with pytest.raises(ValueError, match="was given"):
        attacks.from_spec(name, wrong)


def test_the_best_factor_moves_the_server_towards_the_attackers():
    """Against clipping to a norm, factors beyond it bring nothing more: the least of the best is taken."""
    rule = rules.chain(rules.StaticClipping(max_norm=8.0), rules.Mean())
    own = np.eye(1, D)
    sent = attacks.ModelReplacement("optimal")(np.zeros((M, D)), 1, rule=rule, own=own)
    np.testing.assert_allclose(sent, 8 * own, rtol=1e-6)
