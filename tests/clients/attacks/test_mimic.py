"""Mimic: the heuristic of Karimireddy et al. (2022) on streams whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks


def stream(rounds, scale=1.0, seed=0):
    """Draw rounds of 6 nodes in R^40: noise, a common offset, and node 4 far out along e7."""
    rng = np.random.default_rng(seed)
    updates = rng.normal(0.0, 0.3, (rounds, 6, 40))
    updates[:, :, 0] += 1.0
    updates[:, 4, 7] += 3.0
    return list(scale * updates)


def reference_choice(rounds):
    """Return i* with every update kept: z by Oja's method with dense matrices, projections on the last z."""
    mean, z = rounds[0].mean(axis=0), None
    for t, x in enumerate(rounds):
        mean = t / (1 + t) * mean + x.mean(axis=0) / (1 + t)
        scatter = (x - mean).T @ (x - mean)
        if z is None:
            z = np.linalg.eigh(scatter)[1][:, -1]
        image = scatter @ z
        z = t / (1 + t) * z + image / np.linalg.norm(image) / (1 + t)
        z /= np.linalg.norm(z)
    return int(np.argmax(np.abs(sum(x @ z for x in rounds))))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_copies_the_node_that_stands_out(scale):
    rounds = stream(8, scale)
    attack = attacks.Mimic(warmup=5)
    assert reference_choice(rounds[:5]) == 4
    for t, honest in enumerate(rounds):
        malicious = attack(honest, 3)
        expected = honest[0] if t < 5 else honest[4]
        np.testing.assert_array_equal(malicious, np.tile(expected, (3, 1)))


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_a_dense_reference(seed):
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0.0, 1.0, (7, 12))
    rounds = [offsets + rng.normal(0.0, 0.2, offsets.shape) for _ in range(6)]
    attack = attacks.Mimic(warmup=6)
    for honest in rounds:
        attack(honest, 1)
    last = rng.normal(size=offsets.shape)
    np.testing.assert_array_equal(attack(last, 1)[0], last[reference_choice(rounds)])


def test_node_that_pulls_both_ways_is_not_chosen():
    # Node 1 swings between +3 and -3: its sum over rounds vanishes, that of node 2 (always +2) does not.
    attack = attacks.Mimic(warmup=4)
    for t in range(4):
        honest = np.zeros((4, 5))
        honest[1, 0], honest[2, 0] = 3.0 * (-1) ** t, 2.0
        attack(honest, 1)
    marked = np.arange(20.0).reshape(4, 5)
    np.testing.assert_array_equal(attack(marked, 1)[0], marked[2])


def test_follows_nodes_not_rows():
    rng = np.random.default_rng(1)
    attack = attacks.Mimic(warmup=6)
    orders = [rng.permutation(6) for _ in range(6)]
    for honest, order in zip(stream(6), orders, strict=True):
        malicious = attack(honest[order], 1, ids=[100 + int(node) for node in order])
        np.testing.assert_array_equal(malicious[0], honest[orders[0][0]])
    honest = stream(1, seed=5)[0]
    for order in ([3, 4, 0, 1], [4, 2], [5, 1, 0, 4, 2, 3]):
        ids = [100 + node for node in order]
        np.testing.assert_array_equal(attack(honest[order], 2, ids=ids)[1], honest[4])


def test_absent_node_is_replaced_by_the_best_present():
    attack = attacks.Mimic(warmup=3)
    honest = np.array([[1.0, 0, 0], [0, 2, 4], [0, 0, 9], [0, 1, 0]])
    for _ in range(3):
        attack(honest, 1, ids="abcd")
    present = np.arange(9.0).reshape(3, 3)
    # c is away; of the others b leans most to the last axis.
    np.testing.assert_array_equal(attack(present, 1, ids="abd")[0], present[1])
    np.testing.assert_array_equal(attack(present, 1, ids="xyz")[0], present[0])


def test_warm_up_keeps_to_one_node():
    attack = attacks.Mimic(warmup=3)
    honest = np.arange(8.0).reshape(4, 2)
    attack(honest, 1, ids=["b", "a", "c", "d"])
    np.testing.assert_array_equal(attack(honest, 1, ids=["a", "c", "b", "d"])[0], honest[2])
    np.testing.assert_array_equal(attack(honest[:2], 1, ids=["a", "c"])[0], honest[0])


def test_no_warm_up_copies_the_first_node():
    attack = attacks.Mimic(warmup=0)
    for honest in stream(3):
        np.testing.assert_array_equal(attack(honest, 1)[0], honest[0])


def test_reset_starts_again():
    attack = attacks.Mimic(warmup=2)
    for honest in stream(3):
        attack(honest, 1)
    attack.reset()
    honest = stream(1, seed=9)[0]
    np.testing.assert_array_equal(attack(honest, 1)[0], honest[0])


def test_equal_rows_and_one_node():
    attack = attacks.Mimic(warmup=1)
    for _ in range(3):
        np.testing.assert_array_equal(attack(np.ones((3, 4)), 2), np.ones((2, 4)))
    attack.reset()
    for _ in range(3):
        np.testing.assert_array_equal(attack(np.full((1, 4), 2.0, np.float32), 1), np.full((1, 4), 2.0))


def test_copy_is_exact_and_apart():
    honest = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    malicious = attacks.Mimic(warmup=1)(honest, 2)
    assert malicious.dtype == np.float32
    np.testing.assert_array_equal(malicious[1], honest[0])
    malicious[0] = 0
    assert honest[0].any()


@pytest.mark.parametrize("warmup", [-1, 2.5, True, None, "3"])
def test_wrong_warmup(warmup):
    with pytest.raises(ValueError, match="Mimic was given warmup"):
        attacks.Mimic(warmup)


def test_a_resumed_attack_goes_on_as_an_unbroken_one():
    rng = np.random.default_rng(7)
    rounds = [rng.standard_normal((5, 12)) * [[1], [1], [6], [1], [1]] for _ in range(8)]
    ids = [2**63 + k for k in range(5)]
    unbroken = attacks.Mimic(warmup=5)
    for honest in rounds[:3]:
        unbroken(honest, 2, ids=ids)
    resumed = attacks.Mimic(warmup=5)
    resumed.load_state(unbroken.state())
    for honest in rounds[3:]:
        np.testing.assert_array_equal(resumed(honest, 2, ids=ids), unbroken(honest, 2, ids=ids))
    fresh = attacks.Mimic()
    fresh.load_state({})
    assert fresh.state() == {}
