"""Random draws follow the seed, the round and the place, and can be resumed."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from tests.clients.attacks.data import draw


@pytest.mark.parametrize("kind", [attacks.Random, attacks.Noise, attacks.RandomEpsilon])
def test_draws_follow_the_seed_the_round_and_the_place(kind):
    honest = draw(3, 50)

    def rounds(attack, count):
        return [attack(honest, 1) for _ in range(count)]

    attack = kind(seed=5)
    first = rounds(attack, 6)
    assert len({row.tobytes() for row in first}) > 1
    np.testing.assert_array_equal(rounds(kind(seed=5), 6), first)
    attack.reset()
    np.testing.assert_array_equal(rounds(attack, 6), first)
    assert any((a != b).any() for a, b in zip(first, rounds(kind(seed=6), 6), strict=True))
    resumed = kind(seed=77)
    broken = kind(seed=5)
    assert (rounds(broken, 4)[0] == first[0]).all()
    resumed.load_state(broken.state())
    np.testing.assert_array_equal(rounds(resumed, 2), first[4:])

    def at(*place):
        attack.draw_for(*place)
        return rounds(attack, 6)

    np.testing.assert_array_equal(at(3, 1), at(3, 1))
    others = [np.concatenate(at(*place)).tobytes() for place in [(3, 1), (3, 2), (4, 1), (3,), (1, 3)]]
    assert len(set(others)) == 5
    with pytest.raises(ValueError, match="load that of the same attack"):
        attack.load_state({"rounds": np.array(1)})


def test_unseeded_draws_differ_and_can_be_resumed():
    honest = draw(3, 50)
    one, other = attacks.Random(), attacks.Random()
    assert (one(honest, 1) != other(honest, 1)).any()
    other.load_state(one.state())
    np.testing.assert_array_equal(one(honest, 1), other(honest, 1))
