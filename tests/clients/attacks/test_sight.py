"""What attackers know where some honest updates are not seen (MixTailor A.1.2)."""

from __future__ import annotations

import numpy as np

from clients import attacks
from tests.clients.attacks.data import draw


def test_moments_take_in_the_attackers_own_updates_where_some_are_not_seen():
    honest, own = draw(3, 8), draw(2, 8, seed=1)
    known = np.vstack([honest, own])
    np.testing.assert_allclose(attacks.SignFlip()(honest, 2, own=own, unseen=4)[0], -known.mean(axis=0))
    np.testing.assert_allclose(
        attacks.ALittleIsEnough(1.5)(honest, 2, own=own, unseen=4)[0], known.mean(axis=0) + 1.5 * known.std(axis=0)
    )
    # All are seen: the papers' omniscient attacker.
    np.testing.assert_allclose(attacks.SignFlip()(honest, 2, own=own)[0], -honest.mean(axis=0))
    # None is seen: all that the attackers have is their own.
    nothing = np.empty((0, 8))
    np.testing.assert_allclose(attacks.SignFlip()(nothing, 2, own=own, unseen=4)[0], -own.mean(axis=0))
    np.testing.assert_allclose(attacks.Mimic()(nothing, 2, own=own, unseen=4), own)
